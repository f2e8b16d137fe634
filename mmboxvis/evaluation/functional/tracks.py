"""Annotated and predicted tracks in the form that the evaluator compares.

V frames a video; boxes are ``x, y, width, height`` in pixels.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pycocotools import mask as mask_api

from mmboxvis.files import shown

from .layout import (
    Entry,
    GroundTruth,
    IouType,
    Source,
    VideoInfo,
    box_problem,
    frame_list_problem,
    is_finite,
    is_int,
    mask_problem,
    mask_string_problems,
    read_ground_truth,
    read_results,
    result_problems,
)
from .occlusion import occlusion_score
from .rle import RLE, compress
from .track_iou import box_track_iou, frame_areas, track_iou

Shapes = list[RLE | None] | np.ndarray

# annotations whose run-lengths are read together: bounds the memory
_CHUNK = 256


@dataclass(frozen=True)
class Track:
    """One track of a video.

    Attributes:
        category_id: id in the annotation file.
        shapes: V run-lengths or ``None``, or (V, 4) boxes without area where not seen. Tracks
            with the same shapes share one object.
        frame_areas: (V,) float64 area in pixels, 0 where not seen.
        area: mean area over the frames where it is seen, 0 where it never is; of an annotation
            with masks as the file's ``areas`` say it.
        score: 1 for annotations.
        crowd: annotation of a group, which does not count and may be matched repeatedly.
        occlusion: see :func:`~.occlusion.occlusion_score`; NaN where not annotated.
    """

    category_id: int
    shapes: Shapes
    frame_areas: np.ndarray
    area: float
    score: float = 1.0
    crowd: bool = False
    occlusion: float = math.nan


def _mean_positive(areas: np.ndarray) -> float:
    return float(areas[areas > 0].mean()) if (areas > 0).any() else 0.0


def _areas(shapes: Shapes) -> np.ndarray:
    if isinstance(shapes, np.ndarray):
        return np.maximum(shapes[:, 2:], 0).prod(-1)
    return frame_areas(shapes)


def boxes_of_masks(masks: Sequence[RLE | None]) -> np.ndarray:
    """(V, 4) float64 bounding boxes of V masks, zero where there is none."""
    boxes = np.zeros((len(masks), 4))
    seen = [frame for frame, mask in enumerate(masks) if mask]
    if seen:
        boxes[seen] = mask_api.toBbox([masks[frame] for frame in seen])
    return boxes


def _box_array(bboxes: Sequence[Sequence[float] | None]) -> np.ndarray:
    return np.array([box if box else (0, 0, 0, 0) for box in bboxes], dtype=np.float64)


def _shapes(entry: Entry, iou_type: IouType) -> Shapes:
    if iou_type == 'segm':
        return list(entry['segmentations'])
    if entry.get('bboxes'):
        return _box_array(entry['bboxes'])
    return boxes_of_masks(entry['segmentations'])


def _shape_key(frames: Sequence[Any]) -> tuple:
    return tuple(
        frame['counts'] if isinstance(frame, dict) else frame and tuple(frame) for frame in frames
    )


def result_tracks(results: Sequence[Entry], iou_type: IouType) -> dict[int, list[Track]]:
    """Groups checked results by video, in the order of the list.

    Results of one video with equal shapes, such as one query with several classes, share them.
    """
    by_video: dict[int, list[Track]] = defaultdict(list)
    known: dict[tuple, tuple[Shapes, np.ndarray, float]] = {}
    for entry in results:
        field = 'bboxes' if iou_type == 'box' and entry.get('bboxes') else 'segmentations'
        key = (entry['video_id'], field, *_shape_key(entry[field]))
        if key not in known:
            shapes = _shapes(entry, iou_type)
            areas = _areas(shapes)
            known[key] = (shapes, areas, _mean_positive(areas))
        by_video[int(entry['video_id'])].append(
            Track(int(entry['category_id']), *known[key], score=float(entry['score']))
        )
    return dict(by_video)


def _has_any(annotation: Any, field: str) -> bool:
    """Whether an annotation has a shape of this kind in some frame."""
    frames = annotation.get(field) if isinstance(annotation, dict) else None
    return isinstance(frames, list) and any(frames)


def choose_iou_type(truth: GroundTruth, iou_type: Literal['segm', 'box', 'auto']) -> IouType:
    """Settles 'auto': masks where some annotation has them, boxes otherwise.

    Raises:
        ValueError: if the type is unknown or the file withholds the annotations.
    """
    if iou_type not in ('segm', 'box', 'auto'):
        raise ValueError(f"iou_type must be 'segm', 'box' or 'auto', got {iou_type!r}")
    if truth.annotations is None:
        raise ValueError(
            f"{truth.source}: field 'annotations' is missing or null, so nothing can be scored; "
            'validation and test files of the benchmarks withhold it: write a submission instead'
        )
    if iou_type != 'auto':
        return iou_type
    with_masks = any(_has_any(annotation, 'segmentations') for annotation in truth.annotations)
    with_boxes = any(_has_any(annotation, 'bboxes') for annotation in truth.annotations)
    return 'box' if with_boxes and not with_masks else 'segm'


def _truth_masks(annotation: Entry, where: str, video: VideoInfo) -> list[RLE | None]:
    """The masks of an annotation, their strings unread."""
    boxes_only = _has_any(annotation, 'bboxes') and not _has_any(annotation, 'segmentations')
    if annotation.get('segmentations') is None or boxes_only:
        raise ValueError(
            f"{where}: field 'segmentations' is missing; score with iou_type='box' where there "
            'are boxes only'
        )
    problem = frame_list_problem(annotation['segmentations'], video)
    if problem:
        raise ValueError(f"{where}: field 'segmentations': {problem}")
    masks: list[RLE | None] = []
    for frame, shape in enumerate(annotation['segmentations']):
        try:
            mask = None if shape is None else compress(shape, video.size)
        except (ValueError, TypeError) as error:
            raise ValueError(f'{where}: segmentations[{frame}]: {error}') from error
        problem = mask_problem(mask, video) if mask else None
        if problem:
            raise ValueError(f'{where}: segmentations[{frame}]: {problem}')
        masks.append(mask)
    return masks


def _truth_boxes(annotation: Entry, where: str, video: VideoInfo) -> np.ndarray:
    if annotation.get('bboxes') is None:
        raise ValueError(f"{where}: needs 'bboxes' or 'segmentations', found neither")
    problem = frame_list_problem(annotation['bboxes'], video)
    if problem:
        raise ValueError(f"{where}: field 'bboxes': {problem}")
    for frame, box in enumerate(annotation['bboxes']):
        problem = box_problem(box) if box else None
        if problem:
            raise ValueError(f'{where}: bboxes[{frame}]: {problem}')
    return _box_array(annotation['bboxes'])


def _truth_shapes(
    annotation: Entry, where: str, truth: GroundTruth, iou_type: IouType
) -> tuple[VideoInfo, Shapes]:
    """Video and shapes of an annotation; masks, their strings unread, where it has no boxes."""
    if not isinstance(annotation, dict):
        raise ValueError(f'{where}: expected an object, got {type(annotation).__name__}')
    for field, known in (('video_id', truth.videos), ('category_id', truth.categories)):
        value = annotation.get(field)
        if not is_int(value) or value not in known:
            raise ValueError(f"{where}: field {field!r}: {shown(value)} is not among the file's")
    video = truth.videos[annotation['video_id']]
    masks_alone = not _has_any(annotation, 'bboxes') and annotation.get('segmentations') is not None
    if iou_type == 'segm' or masks_alone:
        return video, _truth_masks(annotation, where, video)
    return video, _truth_boxes(annotation, where, video)


def _truth_area(
    annotation: Entry, own_areas: np.ndarray, with_masks: bool, where: str, video: VideoInfo
) -> float:
    """The file's ``areas`` decide on the size of a mask track, as in the benchmark's program."""
    areas = annotation.get('areas')
    if not areas or not with_masks:
        return _mean_positive(own_areas)
    problem = frame_list_problem(areas, video)
    if problem:
        raise ValueError(f"{where}: field 'areas': {problem}")
    for frame, area in enumerate(areas):
        if area is not None and not is_finite(area):
            raise ValueError(
                f'{where}: areas[{frame}]: expected null or a number, got {shown(area)}'
            )
    return _mean_positive(np.array([area or 0 for area in areas], dtype=np.float64))


def _truth_track(annotation: Entry, where: str, video: VideoInfo, shapes: Shapes) -> Track:
    if annotation.get('iscrowd') not in (None, 0, 1):
        crowd = shown(annotation['iscrowd'])
        raise ValueError(f"{where}: field 'iscrowd' must be 0 or 1, got {crowd}")
    occlusion = math.nan
    if annotation.get('occlusion') is not None:
        problem = frame_list_problem(annotation['occlusion'], video)
        if problem:
            raise ValueError(f"{where}: field 'occlusion': {problem}")
        try:
            occlusion = occlusion_score(annotation['occlusion'])
        except ValueError as error:
            raise ValueError(f"{where}: field 'occlusion': {error}") from error
    areas = _areas(shapes)
    return Track(
        int(annotation['category_id']),
        shapes,
        areas,
        _truth_area(annotation, areas, isinstance(shapes, list), where, video),
        crowd=bool(annotation.get('iscrowd', False)),
        occlusion=occlusion,
    )


def truth_tracks(truth: GroundTruth, iou_type: IouType) -> dict[int, list[Track]]:
    """Checks the annotations and groups them by video, in the order of the file.

    Raises:
        ValueError: naming an annotation and field that is wrong.
    """
    by_video: dict[int, list[Track]] = {video_id: [] for video_id in truth.videos}
    annotations = truth.annotations or []
    for start in range(0, len(annotations), _CHUNK):
        found = []
        for index, annotation in enumerate(annotations[start : start + _CHUNK], start):
            where = f'{truth.source}: annotations[{index}]'
            found.append((annotation, where, *_truth_shapes(annotation, where, truth, iou_type)))
        strings = [
            (where, frame, mask, video)
            for _, where, video, shapes in found
            if isinstance(shapes, list)
            for frame, mask in enumerate(shapes)
            if mask
        ]
        for problem in mask_string_problems(strings):
            raise ValueError(problem)
        for annotation, where, video, shapes in found:
            if iou_type == 'box' and isinstance(shapes, list):
                shapes = boxes_of_masks(shapes)
            by_video[video.id].append(_truth_track(annotation, where, video, shapes))
    return by_video


def read_pair(
    gt: Source | Mapping[str, Any] | GroundTruth,
    results: Source | Sequence[Entry],
    iou_type: Literal['segm', 'box', 'auto'],
) -> tuple[GroundTruth, dict[int, list[Track]], list[Entry], IouType]:
    """Reads and checks an annotation file and the results for it.

    Returns:
        The annotation file, its tracks by video, the checked results, and what to compare.

    Raises:
        ValueError: naming the first entry and field that is wrong.
    """
    truth = read_ground_truth(gt)
    entries, source = read_results(results)
    settled = choose_iou_type(truth, iou_type)
    gts = truth_tracks(truth, settled)
    for problem in result_problems(
        entries, truth.videos, truth.categories, iou_type=settled, source=source
    ):
        raise ValueError(problem)
    return truth, gts, entries, settled


def without_classes(tracks: Sequence[Track]) -> list[Track]:
    """The tracks of one video as tracks of one category, 1.

    Predictions that share their shapes, one query with several classes, become one with the best
    of their scores, in the place of the first.
    """
    best: dict[int, Track] = {}
    for track in tracks:
        known = best.get(id(track.shapes))
        if known is None or track.score > known.score:
            best[id(track.shapes)] = replace(track, category_id=1)
    return list(best.values())


def best_scored(scores: Sequence[float], limit: int) -> list[int]:
    """Positions of the ``limit`` best scores, best first; equal scores keep their order."""
    return sorted(range(len(scores)), key=lambda place: -scores[place])[:limit]


def class_ids(tracks: Sequence[Track]) -> np.ndarray:
    """(N,) int64 category of each track."""
    return np.array([track.category_id for track in tracks], dtype=np.int64)


def pairwise_iou(
    dts: Sequence[Track], gts: Sequence[Track], *, min_frame_iou: float | None = None
) -> np.ndarray:
    """(D, G) IoU of the tracks of one video; shapes that tracks share are compared once.

    ``min_frame_iou`` restricts each pair to the frames where they overlap, see :func:`track_iou`.
    """
    if not dts or not gts:
        return np.zeros((len(dts), len(gts)))
    unique = {id(dt.shapes): dt for dt in dts}
    position = {key: row for row, key in enumerate(unique)}
    rows = [position[id(dt.shapes)] for dt in dts]
    shapes: list[Any] = [dt.shapes for dt in unique.values()]
    others: list[Any] = [gt.shapes for gt in gts]
    if isinstance(others[0], np.ndarray):
        iou = box_track_iou(np.stack(shapes), np.stack(others), min_frame_iou=min_frame_iou)
        return iou[rows]
    areas = (
        np.stack([dt.frame_areas for dt in unique.values()]),
        np.stack([gt.frame_areas for gt in gts]),
    )
    return track_iou(shapes, others, min_frame_iou=min_frame_iou, areas=areas)[rows]
