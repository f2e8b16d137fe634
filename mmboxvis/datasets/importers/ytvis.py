"""YouTube-VIS layout, the one this package trains from."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from mmboxvis.run_lengths import MAX_SIDE

from ..categories import match_categories
from ..video_json import VideoInstances, VideoJsonReader
from .box_set import VISIBILITY, Box, BoxSet, Collector, ReadOptions, Track, Video
from .place import Place, read_json, shown
from .rle import frame_size, read_mask

MAX_ENTRIES = 50_000_000
"""Entries of all tracks together, one a frame and object: some 0.5 GB of json."""

_DIGITS = 4  # of a pixel: below anything that was annotated, and it keeps the file short


class _UnclippedReader(VideoJsonReader):
    """Checks annotations whose boxes are kept as they are: nothing is clipped, so none is told."""

    def gather(self, *_: object) -> dict[int, VideoInstances]:
        return {}

    def _warn(self) -> None:
        pass


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a json in YouTube-VIS layout; crowd annotations are left out.

    Masks are read with ``keep_masks``; a frame with a box may have none.

    Raises:
        AnnotationError: if it is broken.
    """
    place = Place(source)
    content = place.table(read_json(source), 'the file')
    checker = _UnclippedReader(str(source), content, empty_boxes='absent')
    names = {
        key: place.at(f'category {key}').text(name, 'name')
        for key, name in checker.categories().items()
    }
    videos = checker.videos()
    # boxes are taken as they are, so that no size is needed to check them
    checker.instances(
        [dict(video, width=MAX_SIDE, height=MAX_SIDE) for video in videos],
        dict.fromkeys(names, 0),
    )
    collector = Collector(options)
    drafts = {
        video['id']: collector.video(
            video['name'],
            None,
            place.at(f'video {video["id"]}'),
            size=(video['width'], video['height']),
            file_names=video['file_names'],
            first_number=options.first_frame or 0,
            may_share=True,
        )
        for video in videos
    }
    for annotation in content['annotations']:
        spot = place.at(f'annotation {annotation["id"]}')
        if annotation.get('iscrowd', 0):
            collector.note('crowd annotations left out')
            continue
        draft = drafts[annotation['video_id']]
        boxes = annotation['bboxes']
        levels = annotation.get('occlusion') or [None] * len(boxes)
        spot.items(levels, 'occlusion', len(boxes))
        masks = _masks(annotation, draft.video, spot) if options.keep_masks else [None] * len(boxes)
        for frame, (box, level, mask) in enumerate(zip(boxes, levels, masks, strict=True)):
            if level not in tuple(VISIBILITY):  # a list cannot be looked up in a dict
                spot.fail(f'frame {frame}: unknown occlusion {shown(level)}')
            if box is not None:
                draft.add(
                    annotation['id'],
                    names[annotation['category_id']],
                    frame,
                    tuple(box),
                    spot.at(f'frame {frame}'),
                    occlusion=level,
                    mask=mask,
                )
            elif mask is not None:
                collector.note('masks without a box left out')
    return collector.finish(tuple(names.values()))


def _masks(annotation: dict[str, Any], video: Video, place: Place) -> list[dict[str, Any] | None]:
    """Checked run-lengths of each frame of an annotation."""
    masks = annotation.get('segmentations')
    if masks is None:
        place.fail('has no segmentations; read without --keep-masks to have the boxes alone')
    size = frame_size((video.width, video.height), place)
    return [
        None if mask is None else read_mask(mask, size, place.at(f'frame {frame}, segmentations'))
        for frame, mask in enumerate(place.items(masks, 'segmentations', len(video.file_names)))
    ]


def to_ytvis(boxes: BoxSet, *, keep_masks: bool = False) -> dict[str, Any]:
    """The set as a json in YouTube-VIS layout, which ``BoxVideo`` loads.

    Videos, categories and annotations are numbered from 1. Annotations have ``occlusion`` where
    it is known for a frame at least, and ``source_id``, their identity in the source.

    Args:
        boxes: the set.
        keep_masks: write ``segmentations`` too; every object needs them.

    Raises:
        AnnotationError: if it would be too large.
        ValueError: if two classes differ by case, space, hyphen or underscore only.
    """
    place = Place(Path('output'))
    entries = sum(len(video.numbers) * len(video.tracks) for video in boxes.videos)
    if entries > MAX_ENTRIES:
        place.fail(
            f'objects times frames are {entries}, more than {MAX_ENTRIES}; import the source in '
            'parts, or thin the frames out with --every'
        )
    categories = dict(enumerate(boxes.classes, start=1))
    match_categories(categories, boxes.classes, category_map={}, unknown='error', where='output')
    number_of = {name: number for number, name in categories.items()}
    numbers = itertools.count(1)
    annotations = [
        dict(
            id=next(numbers),
            video_id=video_id,
            category_id=number_of[track.label],
            iscrowd=0,
            source_id=track.key,
            **_per_frame(track, len(video.numbers), keep_masks=keep_masks),
        )
        for video_id, video in enumerate(boxes.videos, start=1)
        for track in video.tracks
    ]
    return dict(
        videos=[_video(number, video) for number, video in enumerate(boxes.videos, start=1)],
        categories=[dict(id=number, name=name) for number, name in categories.items()],
        annotations=annotations,
    )


def _video(number: int, video: Video) -> dict[str, Any]:
    sides = dict(width=video.width, height=video.height)
    return dict(
        id=number,
        name=video.name,
        length=len(video.file_names),
        **{name: side for name, side in sides.items() if side is not None},
        file_names=list(video.file_names),
    )


def _per_frame(track: Track, length: int, *, keep_masks: bool) -> dict[str, list[Any]]:
    """The lists of a track, ``None`` where it is not seen."""

    def rounded(box: Box) -> list[float]:
        return [round(value, _DIGITS) for value in box]

    frames = range(length)
    lists: dict[str, list[Any]] = dict(
        bboxes=[rounded(track.boxes[t]) if t in track.boxes else None for t in frames]
    )
    if track.occlusion:
        lists['occlusion'] = [track.occlusion.get(t) for t in frames]
    if keep_masks:
        lists['segmentations'] = [track.masks.get(t) for t in frames]
    return lists
