"""Results of mmtrack and mmdet, as their test programs write them, read as tracks.

Three layouts, as json or as a pickle: lists of boxes by frame and class (mmtrack's ``--out``), data
samples (mmengine's ``DumpResults``), and tracks in the YouTube-VIS layout (``results.json`` of
``YouTubeVISMetric``).
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmboxvis.plain_pickle import PlainUnpickler

from .box_set import Box, BoxSet, Collector, ReadOptions, VideoDraft, from_corners
from .coco_vid import read_categories, read_videos
from .place import MAX_BYTES, AnnotationError, Place, read_json, shown
from .rle import encode, frame_size, read_mask, rle_box


@dataclass(frozen=True)
class _Tested:
    """What the results are of.

    Attributes:
        names: of the labels: that of label i is the i-th.
        category_names: name of each category id.
        drafts: videos by id.
        frame_of: video id and position of each image id.
    """

    names: tuple[str, ...]
    category_names: Mapping[int, str]
    drafts: Mapping[int, VideoDraft]
    frame_of: Mapping[int, tuple[int, int]]
    keep_masks: bool

    def add(
        self,
        frame: tuple[int, int],
        key: int,
        label: object,
        score: object,
        place: Place,
        *,
        corners: object,
        mask: object = None,
    ) -> None:
        """Adds a track's place in one frame: the corners of its box, else the box of its mask."""
        number = place.whole(label, 'label')
        if number >= len(self.names):
            place.fail(
                f'label {number}, but the annotations have {len(self.names)} categories; were the '
                'results made for them?'
            )
        draft = self.drafts[frame[0]]
        rle = None
        if mask is not None and (self.keep_masks or corners is None):
            rle = self._mask(mask, draft, place)
        box = _box(corners, place) if corners is not None else rle_box(rle or {})
        draft.add(
            key,
            self.names[number],
            frame[1],
            box,
            place,
            mask=rle if self.keep_masks else None,
            score=place.number(score, 'score', -1, 1),
        )

    @staticmethod
    def _mask(mask: object, draft: VideoDraft, place: Place) -> dict[str, Any]:
        size = frame_size((draft.video.width, draft.video.height), place, 'masks, but ')
        if isinstance(mask, np.ndarray):
            if mask.shape != size:
                place.fail(f'a mask of {mask.shape} in a frame of {size}')
            mask = encode(mask > 0)
        return read_mask(mask, size, place)


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads results; ``options.annotations`` is the CocoVID json they are of.

    A track has the class it has in most frames, and the mean of its scores. Pickles may hold
    numbers, arrays, tensors and plain containers, nothing else is loaded.

    Raises:
        AnnotationError: if the results are broken, or not of these annotations.
        FileNotFoundError: if a file is missing.
        ValueError: if no annotations are given.
    """
    if options.annotations is None:
        raise ValueError(
            f'{source}: results do not say which frames and classes they are of: give the CocoVID '
            'json that was tested on with --annotations'
        )
    place = Place(source)
    content = _load(source)
    collector = Collector(options)
    tested = _read_tested(options.annotations, collector)
    if isinstance(content, Mapping):
        _read_lists(content, tested, collector, place)
    elif isinstance(content, list) and all(isinstance(entry, Mapping) for entry in content):
        if all('segmentations' in entry or 'bboxes' in entry for entry in content):
            _read_entries(content, tested, place)
        else:
            _read_samples(content, tested, collector, place)
    else:
        place.fail(f'expected results of mmtrack or mmdet, got {type(content).__name__}')
    # classes are in the order of the annotations, whatever order the labels are in
    known = tuple(tested.category_names.values())
    return collector.finish((*known, *(name for name in tested.names if name not in known)))


def _read_tested(path: Path, collector: Collector) -> _Tested:
    place = Place(path)
    content = place.table(read_json(path), 'the file')
    names = read_categories(content, place)
    drafts, frame_of = read_videos(content, collector, place)
    return _Tested(
        names=collector.options.labels or tuple(names.values()),
        category_names=names,
        drafts=drafts,
        frame_of=frame_of,
        keep_masks=collector.options.keep_masks,
    )


# ------------------------------------------------------------------ pickles


class _Sample:
    """Takes the place of mmdet's data samples and instances: attributes, no code."""


def _storage(data: bytes) -> Any:
    """The numbers of a tensor, which torch pickles as a file within the file."""
    return torch.load(io.BytesIO(data), map_location='cpu', weights_only=True)


_STAND_INS = {
    ('torch._utils', '_rebuild_tensor_v2'): torch._utils._rebuild_tensor_v2,
    ('torch.storage', '_load_from_bytes'): _storage,
    ('mmdet.structures.det_data_sample', 'DetDataSample'): _Sample,
    ('mmtrack.structures.track_data_sample', 'TrackDataSample'): _Sample,
    ('mmengine.structures.instance_data', 'InstanceData'): _Sample,
}


def _load(source: Path) -> Any:
    if source.suffix not in ('.pkl', '.pickle'):
        return read_json(source)
    if not source.is_file():
        raise FileNotFoundError(f'{source} not found')
    if source.stat().st_size > MAX_BYTES:
        Place(source).fail(f'larger than {MAX_BYTES} bytes')
    try:
        with source.open('rb') as file:
            return _plain(PlainUnpickler(file, stand_ins=_STAND_INS).load())
    except AnnotationError:
        raise
    except Exception as error:  # a broken pickle raises anything
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AnnotationError(f'{source}: no readable pickle of results: {told}') from (
            error if isinstance(error, pickle.UnpicklingError) else None
        )


def _plain(value: Any) -> Any:
    """Tensors as arrays, stand-ins as dicts, tuples as lists."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, _Sample):
        value = {name.lstrip('_'): part for name, part in vars(value).items()}
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


# ------------------------------------------------------------------ layouts


def _read_lists(
    content: Mapping[str, Any], tested: _Tested, collector: Collector, place: Place
) -> None:
    """``track_bboxes`` and ``track_masks``: by frame, by class, rows of id, corners, score."""
    name = 'track_bboxes' if 'track_bboxes' in content else 'track_results'
    frames = place.items(content.get(name), f'{name!r}, which results of tracking have,')
    all_masks = content.get('track_masks')
    if len(frames) != len(tested.frame_of):
        place.fail(
            f'{name!r} has {len(frames)} frames, the annotations have {len(tested.frame_of)}; were '
            'the results made for them?'
        )
    for index, frame in enumerate(sorted(tested.frame_of.values(), key=_test_order(tested))):
        spot = place.at(f'{name}[{index}]')
        of_frame = _item(all_masks, index, 'track_masks', place)
        for label, rows in enumerate(spot.items(frames[index], 'a frame')):
            masks = _item(of_frame, label, 'track_masks of a frame', spot)
            for row, values in enumerate(_rows(rows, spot)):
                mask = _item(masks, row, 'track_masks of a class', spot)
                _read_row(frame, label, values, mask, tested, collector, spot)


def _test_order(tested: _Tested) -> Any:
    """Frames are tested video by video, in the order of the file."""
    order = {video_id: number for number, video_id in enumerate(tested.drafts)}
    return lambda frame: (order[frame[0]], frame[1])


def _read_row(
    frame: tuple[int, int],
    label: int,
    values: object,
    mask: object,
    tested: _Tested,
    collector: Collector,
    place: Place,
) -> None:
    if not isinstance(values, list) or len(values) != 6:
        place.fail(f'a row must be id, x1, y1, x2, y2, score, got {shown(values)}')
    key = place.whole(values[0], 'id', -1)
    if key < 0:
        collector.note('boxes without track left out')
        return
    tested.add(frame, key, label, values[5], place, corners=values[1:5], mask=mask)


def _read_samples(
    samples: list[Mapping[str, Any]], tested: _Tested, collector: Collector, place: Place
) -> None:
    """Data samples of frames, or of videos that hold frames, with ``pred_track_instances``."""
    found = 0
    for index, sample in enumerate(samples):
        spot = place.at(f'sample {index}')
        frames = sample.get('video_data_samples', [sample])
        for frame in spot.items(frames, 'video_data_samples'):
            instances = spot.table(frame, 'a frame').get('pred_track_instances')
            if instances is None:
                spot.fail('has no pred_track_instances, so no tracks')
            image = spot.whole(frame.get('img_id'), 'img_id')
            if image not in tested.frame_of:
                spot.fail(f'img_id {image} is not among the images of the annotations')
            found += 1
            _read_instances(tested.frame_of[image], instances, tested, collector, spot)
    if found != len(tested.frame_of):
        collector.note('frames of the annotations without results', len(tested.frame_of) - found)


def _read_instances(
    frame: tuple[int, int],
    instances: Mapping[str, Any],
    tested: _Tested,
    collector: Collector,
    place: Place,
) -> None:
    table = place.table(instances, 'pred_track_instances')
    columns = [_rows(table.get(name, []), place) for name in ('instances_id', 'labels', 'scores')]
    if len(set(map(len, columns))) > 1:
        place.fail(
            'instances_id, labels and scores differ in length: '
            f'{", ".join(str(len(column)) for column in columns)}'
        )
    boxes, masks = table.get('bboxes'), table.get('masks')
    boxes = None if boxes is None else _rows(boxes, place)
    for number, (key, label, score) in enumerate(zip(*columns, strict=True)):
        if place.whole(key, 'instances_id', -1) < 0:
            collector.note('boxes without track left out')
            continue
        corners = _item(boxes, number, 'bboxes', place)
        mask = _item(masks, number, 'masks', place)
        if corners is None and mask is None:
            place.fail('an instance has neither a box nor a mask')
        tested.add(frame, int(key), label, score, place, corners=corners, mask=mask)


def _read_entries(entries: list[Mapping[str, Any]], tested: _Tested, place: Place) -> None:
    """Tracks in the YouTube-VIS layout, one entry each."""
    # an entry names its category, so no list of labels is asked
    tested = replace(tested, names=tuple(tested.category_names.values()))
    labels = {key: label for label, key in enumerate(tested.category_names)}
    for index, entry in enumerate(entries):
        spot = place.at(f'[{index}]')
        video_id = spot.whole(entry.get('video_id'), 'video_id')
        category = spot.whole(entry.get('category_id'), 'category_id')
        if video_id not in tested.drafts or category not in labels:
            spot.fail(f'video {video_id} or category {category} is not in the annotations')
        length = len(tested.drafts[video_id])
        name = 'segmentations' if entry.get('segmentations') is not None else 'bboxes'
        for position, shape in enumerate(spot.items(entry.get(name), name, length)):
            if shape is None:
                continue
            corners, mask = None, shape
            if name == 'bboxes':
                x, y, w, h = (
                    spot.number(side, 'a number of bbox') for side in spot.items(shape, 'bbox', 4)
                )
                corners, mask = [x, y, x + w, y + h], None
            at = spot.at(f'frame {position}')
            score = entry.get('score')
            tested.add(
                (video_id, position), index, labels[category], score, at, corners=corners, mask=mask
            )


def _rows(value: object, place: Place) -> list[Any]:
    """Rows of a list or an array, as plain lists and numbers."""
    return place.items(value.tolist() if isinstance(value, np.ndarray) else value, 'rows')


def _item(value: object, index: int, name: str, place: Place) -> Any:
    """One item of a list or an array, or ``None`` where there is none."""
    if value is None:
        return None
    # an array of masks is not spread out into numbers
    whole = value if isinstance(value, np.ndarray) and value.ndim else place.items(value, name)
    return whole[index] if index < len(whole) else None


def _box(corners: object, place: Place) -> Box:
    """x, y, w, h of a box of four corners; results may have turned ones, which have no area."""
    x1, y1, x2, y2 = (
        place.number(value, 'a number of a box') for value in place.items(corners, 'box', 4)
    )
    return from_corners(x1, y1, max(x1, x2), max(y1, y2))
