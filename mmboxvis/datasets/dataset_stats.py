"""Counts and distributions of box-annotated sets: Table 2 and Figure 2 of the paper, and more.

Shape shorthand: M objects, an object being one box of one instance in one frame; K classes.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np

from mmboxvis.class_names import class_key

from .categories import (
    BVISD_CLASSES,
    Source,
    bvisd_category_map,
    category_names,
    match_categories,
)
from .json_stream import (
    AnnotationFile,
    Layout,
    OnBytes,
    StrPath,
    read_annotation_file,
    without_gc,
)
from .video_json import VideoJsonReader

Origin = Literal['ytvis21', 'ovis', 'coco', 'bvisd']
ORIGINS: tuple[Origin, ...] = get_args(Origin)

#: Seconds for one box and for one polygon (paper Sec. 3.3).
BOX_SECONDS, MASK_SECONDS = Fraction(7), Fraction('79.2')
_DAY = 24 * 60 * 60

#: Edges of the bins of the histograms; the last bin is open.
BINS: Mapping[str, tuple[float, ...]] = {
    'box_side': (0, 16, 32, 64, 96, 128, 192, 256, 384, 512, math.inf),
    'video_length': (1, 2, 10, 20, 30, 40, 60, 100, 200, math.inf),
    'track_length': (1, 2, 10, 20, 30, 40, 60, 100, 200, math.inf),
    'overlap': (0, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, math.inf),
    'motion': (0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, math.inf),
}
HISTOGRAM_LABELS: Mapping[str, str] = {
    'box_side': 'size of a box: square root of its area, pixels',
    'video_length': 'length of a video, frames',
    'track_length': 'frames in which an instance is seen',
    'overlap': 'occlusion: largest share of a box that another one covers',
    'motion': 'motion: way of the centre to the next frame, in box sizes',
}

_BATCH = 20_000
_MAX_PAIRS = 2_000_000


# ------------------------------------------------------------------ annotation time


def annotation_days(num_objects: int, seconds: Fraction) -> Fraction:
    """Worker days that annotating takes, a worker day being 24 hours as in the paper."""
    return num_objects * seconds / _DAY


def whole_annotation_days(objects_of_sets: Iterable[int], seconds: Fraction) -> int:
    """Worker days as the paper's Table 2 prints them.

    Its figures come out when the days of each set are rounded up, and those of BVISD are the sum
    of the rounded figures of its three parts (897 days if they were computed from its 978k
    objects at once, 898 in the table).
    """
    return sum(math.ceil(annotation_days(number, seconds)) for number in objects_of_sets)


# ------------------------------------------------------------------ reading


@dataclass(frozen=True)
class ObjectTable:
    """All boxes of a set.

    Attributes:
        video: (M,) int64 position of the video in the file.
        instance: (M,) int64 number of the instance, the same in all its frames.
        frame: (M,) int64 position in the video.
        label: (M,) int64.
        boxes: (M, 4) float32 xyxy in pixels, inside the frame.
    """

    video: np.ndarray
    instance: np.ndarray
    frame: np.ndarray
    label: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True)
class SetStatistics:
    """What a set holds. Crowd annotations and boxes without area are not counted.

    Attributes:
        name: of the set.
        layout: ``'image'`` sets have no videos; each image is a frame.
        origin: data set that the categories are those of, if any.
        num_videos: videos; 0 for images.
        num_frames: frames or images.
        num_instances: instances; in images each object is one.
        num_objects: boxes.
        num_categories: categories of the file.
        num_overlapping: how many of them have a class in BVISD.
        num_bvisd_classes: how many classes of BVISD they become; fewer where BVISD joins some.
        objects_per_class: class name to boxes.
        samples: name in :data:`BINS` to values.
        occlusion: annotated occlusion level to boxes, empty where the file has none.
    """

    name: str
    layout: Layout
    origin: Origin | None
    num_videos: int
    num_frames: int
    num_instances: int
    num_objects: int
    num_categories: int
    num_overlapping: int
    num_bvisd_classes: int
    objects_per_class: dict[str, int]
    samples: dict[str, np.ndarray]
    occlusion: dict[str, int]

    def histograms(self) -> dict[str, np.ndarray]:
        """Name to the counts in the bins of :data:`BINS`."""
        return {
            name: np.histogram(values, np.array(BINS[name]))[0]
            for name, values in self.samples.items()
        }


@without_gc()
def dataset_statistics(
    path: StrPath,
    *,
    name: str | None = None,
    origin: Origin | None = None,
    as_bvisd: bool = False,
    on_bytes: OnBytes | None = None,
) -> SetStatistics:
    """Goes through an annotation file in YouTube-VIS or COCO layout.

    The file is streamed; what is kept is 48 bytes a box.

    Args:
        path: the file.
        name: of the set; that of the file by default.
        origin: data set of the categories; found by their names by default.
        as_bvisd: count only objects that BVISD takes, under its classes, and only images that
            have one (paper Sec. 3.3).
        on_bytes: told how many bytes have been read; the file is read twice.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is broken; ``tools/misc/check_dataset.py`` lists all faults.
        ValueError: if ``as_bvisd`` is asked for categories of an unknown data set.
    """
    file = read_annotation_file(path, on_bytes=on_bytes)
    reader = VideoJsonReader(
        path=str(path), content=dict(videos=file.videos, categories=file.categories)
    )
    categories = reader.categories()
    origin = origin or find_origin(categories.values(), file.layout)
    to_class = _bvisd_labels(categories, origin, str(path))
    if as_bvisd and origin is None:
        raise ValueError(
            f'{path}: its categories are not all of one data set that BVISD is made of; say with '
            f'--origin whose classes to count them as, of {", ".join(ORIGINS)}; those that it '
            'has not are left out'
        )
    classes = BVISD_CLASSES if as_bvisd else tuple(categories.values())
    numbers = {key: number for number, key in enumerate(categories)}
    label_of = {key: to_class.get(key) if as_bvisd else numbers[key] for key in categories}
    videos = reader.videos()
    table, occlusion = _read_objects(file, videos, label_of, on_bytes)
    lengths = np.array([len(video['file_names']) for video in videos], np.int64)
    if as_bvisd and file.layout == 'image':
        lengths = lengths[np.unique(table.video)]
    per_class = np.bincount(table.label, minlength=len(classes))
    return SetStatistics(
        name=name or file.path.stem,
        layout=file.layout,
        origin=origin,
        num_videos=len(lengths) if file.layout == 'video' else 0,
        num_frames=int(lengths.sum()),
        num_instances=len(np.unique(table.instance)),
        num_objects=len(table),
        num_categories=len(categories),
        num_overlapping=len(to_class),
        num_bvisd_classes=len(set(to_class.values())),
        objects_per_class=dict(zip(classes, per_class.tolist(), strict=True)),
        samples=_samples(table, lengths if file.layout == 'video' else None),
        occlusion=occlusion,
    )


def find_origin(names: Iterable[str], layout: Layout = 'video') -> Origin | None:
    """The data set all of whose category names, or some, these are; ``None`` for others.

    Where several fit, such as for people alone, COCO comes first for images and last for videos.
    """
    categories = dict(enumerate(names))
    known: dict[Origin, tuple[str, ...]] = dict(
        ytvis21=tuple(category_names('ytvis21').values()),
        ovis=tuple(category_names('ovis').values()),
        bvisd=BVISD_CLASSES,
        coco=tuple(category_names('coco').values()),
    )
    order: list[Origin] = ['ytvis21', 'ovis', 'bvisd', 'coco']
    if layout == 'image':
        order = ['coco', 'bvisd', 'ytvis21', 'ovis']
    for origin in order:
        if _all_among(categories, known[origin]):
            return origin
    return None


def _all_among(categories: Mapping[int, str], classes: Sequence[str]) -> bool:
    try:
        match_categories(categories, classes, category_map={}, unknown='error', where='')
    except ValueError:
        return False
    return bool(categories)


def _bvisd_labels(
    categories: Mapping[int, str], origin: Origin | None, where: str
) -> dict[int, int]:
    """BVISD label, from 0, of each category that has one."""
    mapped = {} if origin in (None, 'bvisd') else bvisd_category_map(_source(origin))
    try:
        labels = match_categories(
            categories, BVISD_CLASSES, category_map=mapped, unknown='drop', where=where
        )
    except ValueError:  # none has one
        return {}
    return {key: label for key, label in labels.items() if label is not None}


def _source(origin: Origin | None) -> Source:
    if origin is None or origin == 'bvisd':
        raise ValueError(f'{origin} is not a data set that BVISD is made of')
    return origin


@dataclass
class _Columns:
    """Parts of an :class:`ObjectTable` as they are read."""

    video: list[np.ndarray] = field(default_factory=list)
    instance: list[np.ndarray] = field(default_factory=list)
    frame: list[np.ndarray] = field(default_factory=list)
    label: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)

    def add(self, table: ObjectTable) -> None:
        """Appends all boxes of a table."""
        self.video.append(table.video)
        self.instance.append(table.instance)
        self.frame.append(table.frame)
        self.label.append(table.label)
        self.boxes.append(table.boxes)

    def table(self) -> ObjectTable:
        """All parts in one."""
        none = np.zeros(0, np.int64)
        return ObjectTable(
            video=np.concatenate([none, *self.video]),
            instance=np.concatenate([none, *self.instance]),
            frame=np.concatenate([none, *self.frame]),
            label=np.concatenate([none, *self.label]),
            boxes=np.concatenate([np.zeros((0, 4), np.float32), *self.boxes]),
        )


def _read_objects(
    file: AnnotationFile,
    videos: Sequence[Mapping[str, Any]],
    label_of: Mapping[int, int | None],
    on_bytes: OnBytes | None,
) -> tuple[ObjectTable, dict[str, int]]:
    """All boxes as training would read them, and the annotated occlusion levels."""
    # where the file does not tell the size, nothing can be clipped
    sized = [
        dict(video, height=video['height'] or 1 << 30, width=video['width'] or 1 << 30)
        for video in videos
    ]
    place = {video['id']: (index, video) for index, video in enumerate(sized)}
    whole, occlusion, numbers = _Columns(), Counter[str](), itertools.count()
    entries = file.annotations(on_bytes=on_bytes)
    while batch := list(itertools.islice(entries, _BATCH)):
        own = {e['video_id'] for e in batch if isinstance(e, dict) and e.get('video_id') in place}
        reader = VideoJsonReader(
            path=str(file.path), content=dict(annotations=batch), empty_boxes='absent'
        )
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # statistics are no place for clipped boxes
            found = reader.instances([place[key][1] for key in own], label_of)
        columns = _Columns()
        for key, instances in found.items():
            rows, frames = np.nonzero(instances.valid)
            number = np.array([next(numbers) for _ in instances.ids], np.int64)
            columns.video.append(np.full(len(rows), place[key][0], np.int64))
            columns.instance.append(number[rows])
            columns.frame.append(frames)
            columns.label.append(instances.labels[rows])
            columns.boxes.append(instances.boxes[rows, frames])
        whole.add(columns.table())
        for annotation in batch:
            levels = annotation.get('occlusion')
            if isinstance(levels, list) and label_of[annotation['category_id']] is not None:
                occlusion.update(level for level in levels if isinstance(level, str))
    return whole.table(), dict(occlusion)


# ------------------------------------------------------------------ distributions


def _samples(table: ObjectTable, lengths: np.ndarray | None) -> dict[str, np.ndarray]:
    """Values of each histogram; those over time only where there is time."""
    sides = (table.boxes[:, 2:] - table.boxes[:, :2]).astype(np.float64)
    samples = dict(box_side=np.sqrt(sides.prod(1)), overlap=box_overlap(table))
    if lengths is not None:
        samples.update(
            video_length=lengths,
            track_length=np.unique(table.instance, return_counts=True)[1],
            motion=box_motion(table),
        )
    return samples


def box_overlap(table: ObjectTable) -> np.ndarray:
    """The largest share of each box that another box of its frame covers.

    Returns:
        (M,) float64 in [0, 1]; 0 where a box is alone.
    """
    overlap = np.zeros(len(table))
    order = np.lexsort((table.frame, table.video))
    video, frame = table.video[order], table.frame[order]
    first = np.ones(len(table), bool)
    first[1:] = (video[1:] != video[:-1]) | (frame[1:] != frame[:-1])
    starts = np.flatnonzero(first)
    counts = np.diff(np.append(starts, len(table)))
    # frames with the same number of boxes are one array
    for count in np.unique(counts[counts > 1]).tolist():
        rows = starts[counts == count, None] + np.arange(count)
        for part in np.array_split(rows, math.ceil(rows.size * count / _MAX_PAIRS)):
            members = order[part]
            overlap[members] = _covered_share(table.boxes[members].astype(np.float64))
    return overlap


def _covered_share(boxes: np.ndarray) -> np.ndarray:
    """(G, n, 4) boxes of G frames -> (G, n) largest covered share of each."""
    low = np.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = np.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    shared = (high - low).clip(0).prod(-1)
    own = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    shared[:, np.arange(boxes.shape[1]), np.arange(boxes.shape[1])] = 0
    return shared.max(-1) / own


def box_motion(table: ObjectTable) -> np.ndarray:
    """Way of each box's centre to the next frame, over the square root of the box's area.

    Returns:
        One float64 for each pair of neighbouring frames in both of which an instance is seen.
    """
    order = np.lexsort((table.frame, table.instance))
    instance, frame = table.instance[order], table.frame[order]
    boxes = table.boxes[order].astype(np.float64)
    follows = (instance[1:] == instance[:-1]) & (frame[1:] == frame[:-1] + 1)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    size = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    way = np.linalg.norm(centres[1:] - centres[:-1], axis=1)
    return (way / size[:-1])[follows]


# ------------------------------------------------------------------ tables


def statistics_table(sets: Sequence[SetStatistics], total: str = 'total') -> dict[str, dict]:
    """Table 2 of the paper: name of the set to its rows, and the sum where there are several."""
    columns = {one.name: _rows([one]) for one in sets}
    if len(sets) > 1:
        columns[total] = _rows(sets)
    return columns


def _rows(sets: Sequence[SetStatistics]) -> dict[str, Any]:
    objects = [one.num_objects for one in sets]
    alone = len(sets) == 1
    names = {class_key(name) for one in sets for name in one.objects_per_class}
    bvisd = {
        name
        for one in sets
        if tuple(one.objects_per_class) == BVISD_CLASSES
        for name in one.objects_per_class
    }
    return {
        'videos': sum(one.num_videos for one in sets),
        'frames': sum(one.num_frames for one in sets),
        'instances': sum(one.num_instances for one in sets),
        'objects': sum(objects),
        'categories': sets[0].num_categories if alone else len(names),
        'pixel annotation, days': whole_annotation_days(objects, MASK_SECONDS),
        'box annotation, days': whole_annotation_days(objects, BOX_SECONDS),
        'categories with a BVISD class': sets[0].num_overlapping if alone else len(bvisd) or None,
        'BVISD classes covered': sets[0].num_bvisd_classes if alone else len(bvisd) or None,
    }


def category_table(sets: Sequence[SetStatistics]) -> dict[str, list[int]]:
    """Figure 2 of the paper: class to its boxes in each set, the most frequent class first."""
    shown: dict[str, str] = {}
    for one in sets:
        for name in one.objects_per_class:
            shown.setdefault(class_key(name), name)
    rows = {name: [0] * len(sets) for name in shown.values()}
    for column, one in enumerate(sets):
        for name, number in one.objects_per_class.items():
            rows[shown[class_key(name)]][column] += number
    return dict(sorted(rows.items(), key=lambda row: (-sum(row[1]), row[0])))
