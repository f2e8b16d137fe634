"""Builds BVISD (paper Sec. 3.3) from the annotation files of YouTube-VIS 2021, OVIS and COCO."""

from __future__ import annotations

import itertools
import os
import platform
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeGuard, get_args

import numpy as np
from pycocotools import mask as mask_utils

from mmboxvis.files import StrPath, whole_files
from mmboxvis.run_lengths import run_totals
from mmboxvis.version import __version__

from .bvisd import bvisd_categories, merge_into_bvisd, split_training_json
from .categories import BVISD_CLASSES, Source, category_names, match_categories, to_bvisd
from .checking.masks import MaskChecker
from .checking.problems import Level
from .json_stream import (
    AnnotationFile,
    JsonStream,
    OnBytes,
    read_annotation_file,
    without_gc,
    write_json_stream,
)
from .video_json import AnnotationError, VideoJsonReader, read_json

Progress = Callable[[str, int, int], None]
Masks = Literal['none', 'valid', 'all']

#: Folders of the frames below the common data root, as the configs expect them.
FRAME_FOLDERS: Mapping[Source, str] = {
    'ytvis21': 'ytvis_2021/train/JPEGImages',
    'ovis': 'OVIS/train',
    'coco': 'coco/train2017',
}
MANIFEST = 'manifest.json'

_MASK_FIELDS = frozenset({'segmentations', 'segmentation', 'areas', 'area'})
_BATCH = 20_000


@without_gc()
def build_bvisd(
    out_dir: StrPath,
    *,
    ytvis21: StrPath | None = None,
    ovis: StrPath | None = None,
    coco: StrPath | None = None,
    released_mapping: bool = False,
    masks: Masks = 'none',
    frame_folders: Mapping[Source, str] = FRAME_FOLDERS,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Writes BVISD's files, all of them or none.

    For each data set given, ``<set>_train.json``; for the two video sets also
    ``<set>_valid.json``; the two joined as ``bvisd_valid.json``; and last ``manifest.json`` with
    settings, versions, hashes, counts and the split, which lists every file that belongs
    together. All have the 40 categories of BVISD, and no id occurs in two training files or in a
    training and a validation file; ``source_id`` keeps the original one. The result depends on
    the inputs and settings alone.

    The video sets are kept in memory without masks, COCO is streamed: memory stays below 1 GB
    for the originals.

    Args:
        out_dir: folder to write, made if needed.
        ytvis21: training json of YouTube-VIS 2021.
        ovis: training json of OVIS.
        coco: training json of COCO.
        released_mapping: send COCO's trucks to turtle, as the released program does by mistake.
        masks: which files keep masks and the areas counted from them: ``'none'``; ``'valid'``,
            so that mask AP can be computed; or ``'all'``, for training with pixels or with boxes
            taken from augmented masks.
        frame_folders: prefix of ``file_names`` in ``bvisd_valid.json``, by data set.
        dry_run: count, but write nothing.
        progress: told what is read, and how many bytes of how many.

    Returns:
        The manifest; in a dry run without hashes of outputs.

    Raises:
        FileNotFoundError: if an input is missing.
        AnnotationError: if an input is broken, is another data set, or none has annotations.
        ValueError: if no input is given or ``masks`` is unknown.
    """
    if masks not in get_args(Masks):
        raise ValueError(f'masks must be one of {get_args(Masks)}, got {masks!r}')
    if ytvis21 is None and ovis is None and coco is None:
        raise ValueError('give at least one of the files of YouTube-VIS 2021, OVIS and COCO')
    videos: dict[Source, StrPath | None] = {'ytvis21': ytvis21, 'ovis': ovis}
    sets = [
        _VideoSet.read(source, path, masks != 'none', progress)
        for source, path in videos.items()
        if path is not None
    ]
    images = None if coco is None else _ImageSet.plan(coco, released_mapping, progress)
    if not any(s.content['annotations'] for s in sets) and not (images and images.kept):
        raise AnnotationError(
            'none of the files given has an annotation that BVISD takes; the training files are '
            'needed, those of the hidden sets have none'
        )
    manifest: dict[str, Any] = dict(
        format=1,
        versions=_versions(),
        settings=dict(
            released_mapping=released_mapping, masks=masks, frame_folders=dict(frame_folders)
        ),
        inputs={s.source: s.record for s in sets},
        outputs={},
        splits={s.source: s.split_ids() for s in sets},
    )
    if images is not None:
        manifest['inputs']['coco'] = images.record
    outputs = _outputs(sets, images, masks, frame_folders, progress)
    if dry_run:
        for name, members in outputs:
            manifest['outputs'][name] = _count(members)
    else:
        _write(Path(out_dir), outputs, manifest)
    return manifest


def _versions() -> dict[str, str]:
    found = dict(mmboxvis=__version__, python=platform.python_version())
    for package in ('numpy', 'pycocotools'):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # installed in a way that leaves no record
            found[package] = 'unknown'
    return found


# ------------------------------------------------------------------ video sets


@dataclass(frozen=True)
class _VideoSet:
    """YouTube-VIS or OVIS with official category ids, and its two parts."""

    source: Source
    content: dict[str, Any]
    train: dict[str, Any]
    valid: dict[str, Any]
    record: dict[str, Any]

    @classmethod
    def read(
        cls, source: Source, path: StrPath, keep_masks: bool, progress: Progress | None
    ) -> _VideoSet:
        """Loads, checks and splits a file."""
        label, size = f'reading {source}', os.path.getsize(path) if os.path.isfile(path) else 0
        stream = JsonStream(path, on_bytes=_byte_counter(progress, label, size))
        loaded: dict[str, list[Any]] = dict(videos=[], categories=[], annotations=[])
        for key, value, position in stream:
            if position is not None and key in loaded:
                strip = key == 'annotations' and not keep_masks
                loaded[key].append(_without_masks(value) if strip else value)
        if 'images' in stream.list_keys:
            raise AnnotationError(f'{path} is in COCO layout; give it as the file of COCO')
        for key in ('videos', 'categories'):
            if key not in stream.list_keys:
                raise AnnotationError(f"{path}: expected a list {key!r} as in YouTube-VIS's files")
        if 'annotations' not in stream.list_keys:
            warnings.warn(
                f'{path}: has no annotations (null or missing), so nothing is taken from it; '
                'give the training file',
                stacklevel=4,
            )
        content, record = cls._checked(source, path, loaded)
        train, valid = split_training_json(content, double_quota=source == 'ovis')
        record = dict(file=Path(path).name, bytes=size, sha256=stream.sha256, **record)
        return cls(source, content, train, valid, record)

    @classmethod
    def _checked(
        cls, source: Source, path: StrPath, loaded: dict[str, list[Any]]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Content without boxes that have no area, and what was found in it."""
        reader = VideoJsonReader(path=str(path), content=loaded, empty_boxes='absent')
        official = _official_ids(source, reader.categories(), path)
        videos = _with_sizes(reader.videos(), path)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # boxes that leave the frame: counted below or kept
            reader.instances(videos, dict.fromkeys(official, 0))
        names = category_names(source)
        by_id = {video['id']: video for video in videos}
        empty = Counter(empty=0)
        _check_masks(path, loaded['annotations'], by_id)
        annotations = [
            _tidy_track(annotation, official, by_id[annotation['video_id']], empty)
            for annotation in loaded['annotations']
        ]
        content = dict(
            videos=[dict(v, source=source, source_id=v['id']) for v in loaded['videos']],
            categories=[dict(id=key, name=names[key]) for key in official.values()],
            annotations=annotations,
        )
        record = dict(
            videos=len(videos),
            frames=sum(len(video['file_names']) for video in videos),
            instances=len(annotations),
            objects=sum(_num_objects(annotation) for annotation in annotations),
            boxes_without_area=empty['empty'],
        )
        return content, record

    def split_ids(self) -> dict[str, list[int]]:
        """Original ids of the videos of each part; those without annotations are in neither."""
        parts = {
            name: [video['source_id'] for video in part['videos']]
            for name, part in (('train', self.train), ('valid', self.valid))
        }
        used = {key for ids in parts.values() for key in ids}
        every = [video['source_id'] for video in self.content['videos']]
        return dict(parts, unannotated=[key for key in every if key not in used])


def _official_ids(source: Source, categories: Mapping[int, str], path: StrPath) -> dict[int, int]:
    """Id in the file to official id, by name: files with other ids or spellings do no harm."""
    names = category_names(source)
    try:
        labels = match_categories(
            categories, tuple(names.values()), category_map={}, unknown='error', where=str(path)
        )
    except ValueError as error:
        raise AnnotationError(f'{error} (it was given as the file of {source})') from error
    ids = tuple(names)
    return {key: ids[label] for key, label in labels.items() if label is not None}


def _with_sizes(videos: list[dict[str, Any]], path: StrPath) -> list[dict[str, Any]]:
    for video in videos:
        for side in ('height', 'width'):
            if video[side] is None:
                raise AnnotationError(f'{path}: video {video["id"]}: field {side!r} is missing')
    return videos


def _tidy_track(
    annotation: Mapping[str, Any],
    official: Mapping[int, int],
    video: Mapping[str, Any],
    count: Counter[str],
) -> dict[str, Any]:
    """A track with official category id, null for boxes without area, and short masks."""
    boxes = [
        box if box is None or (box[2] > 0 and box[3] > 0) else None for box in annotation['bboxes']
    ]
    count['empty'] += sum(box is not None for box in annotation['bboxes'])
    count['empty'] -= sum(box is not None for box in boxes)
    tidy = dict(
        annotation,
        category_id=official[annotation['category_id']],
        source_id=annotation['id'],
        bboxes=boxes,
    )
    if annotation.get('segmentations') is not None:
        size = video['height'], video['width']
        tidy['segmentations'] = [_compress(mask, size) for mask in annotation['segmentations']]
    return tidy


def _check_masks(
    path: StrPath, annotations: Iterable[Mapping[str, Any]], videos: Mapping[int, Mapping[str, Any]]
) -> None:
    """Refuses masks that the checker of annotation files refuses.

    Raises:
        AnnotationError: at the first one.
    """

    def refuse(level: Level, what: str, **where: Any) -> None:
        if level == 'error':
            frame = f', frame {where["frame"]}' if 'frame' in where else ''
            raise AnnotationError(
                f'{path}: video {where["video"]}, annotation {where["annotation"]}{frame}, field '
                f'{where["field"]}: {what}'
            )

    checker = MaskChecker(refuse, needed=True, totals=_mask_totals)
    for annotation in annotations:
        if annotation.get('segmentations') is not None:
            checker.add(annotation, videos[annotation['video_id']])
            checker.finish()


def _mask_totals(strings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    totals = run_totals(strings)
    return totals.intact, totals.pixels


def _compress(mask: Any, size: tuple[int, int]) -> Any:
    """A list of runs as the string that takes a tenth of the memory; others as they are."""
    if not isinstance(mask, dict) or not isinstance(mask['counts'], list):
        return mask
    encoded = mask_utils.frPyObjects(mask, *size)
    return dict(size=list(size), counts=encoded['counts'].decode('ascii'))


def _without_masks(annotation: Any) -> Any:
    if not isinstance(annotation, dict):
        return annotation
    return {key: value for key, value in annotation.items() if key not in _MASK_FIELDS}


def _num_objects(annotation: Mapping[str, Any]) -> int:
    """Boxes of one annotation, in either layout."""
    if 'bbox' in annotation:
        return 1
    return sum(box is not None for box in annotation['bboxes'])


# ------------------------------------------------------------------ COCO


@dataclass(frozen=True)
class _ImageSet:
    """What is taken of COCO: objects of a BVISD class, and images with at least one of them.

    Attributes:
        file: the annotation file.
        to_class: BVISD id of each category id that has one.
        kept: ids of the annotations taken.
        images: ids of their images.
        record: counts, for the manifest.
    """

    file: AnnotationFile
    to_class: dict[int, int]
    kept: set[int]
    images: set[int]
    record: dict[str, Any]

    @classmethod
    def plan(cls, path: StrPath, released_mapping: bool, progress: Progress | None) -> _ImageSet:
        """Checks the file and chooses, without keeping any annotation."""
        size = os.path.getsize(path) if os.path.isfile(path) else 0
        count = _byte_counter(progress, 'reading coco', size)
        file = read_annotation_file(path, on_bytes=count)
        if file.layout != 'image':
            raise AnnotationError(f"{path}: expected a list 'images'; is this a json of COCO?")
        if 'annotations' in file.missing:
            warnings.warn(
                f'{path}: has no annotations (null or missing), so nothing is taken from it; '
                'give the training file',
                stacklevel=4,
            )
        reader = VideoJsonReader(
            path=str(path), content=dict(videos=file.videos, categories=file.categories)
        )
        official = _official_ids('coco', reader.categories(), path)
        forward = to_bvisd('coco', released_mapping=released_mapping)
        to_class = {key: forward[real] for key, real in official.items() if real in forward}
        videos = {video['id']: video for video in _with_sizes(reader.videos(), path)}
        label_of = {key: to_class.get(key) for key in official}
        kept: set[int] = set()
        images: set[int] = set()
        count = _byte_counter(progress, 'checking coco', size)
        for ids, image in _kept_objects(file, videos, label_of, count):
            if not kept.isdisjoint(ids):
                raise AnnotationError(f'{path}: annotation {min(kept & set(ids))}: id used twice')
            kept.update(ids)
            images.add(image)
        record = dict(
            file=file.path.name,
            bytes=size,
            sha256=file.sha256,
            images=len(videos),
            objects=file.num_annotations,
            left_out=file.num_annotations - len(kept),
        )
        return cls(file, to_class, kept, images, record)

    def output(
        self, first_image_id: int, first_annotation_id: int, masks: bool, on_bytes: OnBytes | None
    ) -> dict[str, Any]:
        """The training file in COCO layout; its two lists are to be read in order, once."""
        new_id: dict[int, int] = {}
        images = []
        for video in self.file.videos:
            if video['id'] not in self.images:
                continue
            new_id[video['id']] = first_image_id + len(new_id)
            images.append(
                dict(
                    id=new_id[video['id']],
                    file_name=video['file_names'][0],
                    height=video['height'],
                    width=video['width'],
                    source='coco',
                    source_id=video['id'],
                )
            )
        return dict(
            images=images,
            categories=bvisd_categories(),
            annotations=self._annotations(new_id, first_annotation_id, masks, on_bytes),
        )

    def _annotations(
        self, new_id: Mapping[int, int], first: int, masks: bool, on_bytes: OnBytes | None
    ) -> Iterator[dict[str, Any]]:
        numbers = itertools.count(first)
        for key, entry, position in JsonStream(self.file.path, on_bytes=on_bytes):
            if key != 'annotations' or position is None or entry['id'] not in self.kept:
                continue
            yield dict(
                entry if masks else _without_masks(entry),
                id=next(numbers),
                image_id=new_id[entry['image_id']],
                category_id=self.to_class[entry['category_id']],
                source_id=entry['id'],
            )


def _kept_objects(
    file: AnnotationFile,
    videos: Mapping[int, Mapping[str, Any]],
    label_of: Mapping[int, int | None],
    on_bytes: OnBytes | None,
) -> Iterator[tuple[list[int], int]]:
    """Annotation ids to keep and the image they are in, as training would read them."""
    entries = file.annotations(on_bytes=on_bytes)
    while batch := list(itertools.islice(entries, _BATCH)):
        own = [e.get('video_id') for e in batch if isinstance(e, dict)]
        reader = VideoJsonReader(
            path=str(file.path), content=dict(annotations=batch), empty_boxes='absent'
        )
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # boxes that leave the image stay as they are
            found = reader.instances(
                [videos[key] for key in set(filter(_is_id, own)) if key in videos], label_of
            )
        for image, instances in found.items():
            ids = instances.ids[instances.valid[:, 0]].tolist()
            if ids:
                yield ids, image


def _is_id(value: Any) -> TypeGuard[int]:
    return isinstance(value, int)


# ------------------------------------------------------------------ writing


def _byte_counter(progress: Progress | None, label: str, size: int) -> OnBytes | None:
    if progress is None:
        return None
    return lambda done: progress(label, done, size)


def _outputs(
    sets: Sequence[_VideoSet],
    images: _ImageSet | None,
    masks: Masks,
    folders: Mapping[Source, str],
    progress: Progress | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """File names and contents; numbers go on from file to file."""
    joined = merge_into_bvisd([(s.source, s.valid, folders[s.source]) for s in sets])
    yield 'bvisd_valid.json', joined
    next_video = next_annotation = 1
    for part in ('valid', 'train'):
        for video_set in sets:
            # the validation parts get the numbers that they have in the joined file
            alone = merge_into_bvisd(
                [(video_set.source, getattr(video_set, part), '')],
                first_video_id=next_video,
                first_annotation_id=next_annotation,
            )
            next_video += len(alone['videos'])
            next_annotation += len(alone['annotations'])
            if part == 'train' and masks != 'all':
                alone['annotations'] = [_without_masks(a) for a in alone['annotations']]
            yield f'{video_set.source}_{part}.json', alone
    if images is not None:
        count = _byte_counter(progress, 'writing coco', images.record['bytes'])
        yield 'coco_train.json', images.output(next_video, next_annotation, masks == 'all', count)


class _Counted:
    """Annotations on their way into a file, counted."""

    def __init__(self, annotations: Iterable[dict[str, Any]]) -> None:
        self.annotations = annotations
        self.instances = 0
        self.per_class: Counter[int] = Counter()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for annotation in self.annotations:
            self.instances += 1
            self.per_class[annotation['category_id']] += _num_objects(annotation)
            yield annotation

    def counts(self, members: Mapping[str, Any]) -> dict[str, Any]:
        """What the file holds, once it has been gone through."""
        videos = members.get('videos')
        known: dict[str, Any] = (
            dict(images=len(members['images']))
            if videos is None
            else dict(videos=len(videos), frames=sum(len(v['file_names']) for v in videos))
        )
        return dict(
            known,
            instances=self.instances,
            objects=sum(self.per_class.values()),
            objects_per_class={
                name: self.per_class[number] for number, name in enumerate(BVISD_CLASSES, start=1)
            },
        )


def _count(members: Mapping[str, Any]) -> dict[str, Any]:
    counted = _Counted(members['annotations'])
    deque(counted, maxlen=0)
    return counted.counts(members)


def _write(
    out_dir: Path, outputs: Iterable[tuple[str, dict[str, Any]]], manifest: dict[str, Any]
) -> None:
    """Writes everything aside, then moves it into place, the manifest last."""
    with whole_files(out_dir, overwrite=True, last=MANIFEST) as aside:
        for name, members in outputs:
            counted = _Counted(members['annotations'])
            written = write_json_stream(aside / name, dict(members, annotations=iter(counted)))
            manifest['outputs'][name] = dict(
                bytes=written.num_bytes, sha256=written.sha256, **counted.counts(members)
            )
        write_json_stream(aside / MANIFEST, manifest)
        stale = _listed_in(out_dir / MANIFEST) - manifest['outputs'].keys()
        # without a manifest, the folder does not claim to be whole while files are moved
        for name in (MANIFEST, *stale):
            (out_dir / name).unlink(missing_ok=True)


def _listed_in(manifest: Path) -> set[str]:
    """Files of an earlier run in this folder; names from elsewhere are not trusted."""
    if not manifest.is_file():
        return set()
    try:
        listed = set(read_json(manifest).get('outputs', {}))
    except (AnnotationError, TypeError):
        return set()
    names = {f'{source}_{part}.json' for source in FRAME_FOLDERS for part in ('train', 'valid')}
    return listed & names
