"""Average precision and recall of video instance segmentation.

The definition is that of the YouTube-VIS benchmark, with the occlusion groups of OVIS. Shapes: A
groups, L IoU thresholds, D predictions and G annotations of one video and category.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from .accumulate import CategoryCurves, accumulate
from .layout import Entry, GroundTruth, IouType, Source
from .matching import Matches, match_tracks
from .occlusion import OCCLUSION_RANGES
from .tracks import (
    Track,
    best_scored,
    pairwise_iou,
    read_pair,
    result_tracks,
    without_classes,
)

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETS = (1, 10, 100)

# mean area in pixels, closed on both sides
AREA_RANGES: Mapping[str, tuple[float, float]] = {
    'all': (0, math.inf),
    's': (0, 128**2),
    'm': (128**2, 256**2),
    'l': (256**2, math.inf),
}


@dataclass(frozen=True)
class ClassScores:
    """Scores of one category.

    Attributes:
        category_id: id in the annotation file.
        name: its name there.
        num_truth: annotations that count, crowds left out.
        num_results: predictions, all of them.
        metrics: the keys of :func:`evaluate_vis`, for this category alone.
    """

    category_id: int
    name: str
    num_truth: int
    num_results: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class VISEvaluation:
    """Outcome of an evaluation.

    Example:
        >>> evaluation = VISEvaluation.run('valid_sub.json', 'results.zip')
        >>> evaluation.metrics['AP'], [(c.name, c.metrics['AP']) for c in evaluation.per_class]

    Attributes:
        iou_type: 'segm' or 'box'.
        groups: names of the A groups: 'all', 's', 'm', 'l', and, where annotations have
            ``occlusion``, 'so', 'mo', 'ho'.
        categories: name by id, as in the annotation file.
        curves: precision and recall of each category that has an annotation.
        num_results: predictions of each category that has one.
    """

    iou_type: IouType
    groups: tuple[str, ...]
    categories: dict[int, str]
    curves: dict[int, CategoryCurves]
    num_results: dict[int, int]

    @classmethod
    def run(
        cls,
        gt: Source | Mapping[str, Any] | GroundTruth,
        results: Source | Sequence[Entry],
        *,
        iou_type: Literal['segm', 'box', 'auto'] = 'auto',
        class_agnostic: bool = False,
    ) -> VISEvaluation:
        """Scores results; see :func:`evaluate_vis` for the arguments."""
        truth, gts, entries, settled = read_pair(gt, results, iou_type)
        categories = truth.categories
        if class_agnostic:
            categories = {1: 'object'}
            gts = {key: without_classes(tracks) for key, tracks in gts.items()}
        annotated = {track.category_id for tracks in gts.values() for track in tracks}
        # a category without annotations has no score
        scored = [e for e in entries if class_agnostic or e['category_id'] in annotated]
        dts = result_tracks(scored, settled)
        if class_agnostic:
            dts = {key: without_classes(tracks) for key, tracks in dts.items()}
        groups = dict(AREA_RANGES)
        if any(not math.isnan(track.occlusion) for tracks in gts.values() for track in tracks):
            groups |= OCCLUSION_RANGES
        matches: dict[int, list[Matches]] = {key: [] for key in sorted(annotated)}
        for video_id in truth.videos:
            outcome = _match_video(dts.get(video_id, []), gts[video_id], groups)
            for category_id, match in outcome.items():
                if category_id in matches:  # one class of all is there without annotations too
                    matches[category_id].append(match)
        curves = {key: accumulate(pooled, MAX_DETS) for key, pooled in matches.items()}
        found = (t.category_id for tracks in dts.values() for t in tracks)
        num_results = Counter(
            found if class_agnostic else (int(entry['category_id']) for entry in entries)
        )
        return cls(settled, tuple(groups), categories, curves, dict(num_results))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Scores over all categories; see :func:`evaluate_vis`."""
        return _summarise(list(self.curves.values()), self.groups)

    @cached_property
    def per_class(self) -> tuple[ClassScores, ...]:
        """Scores of each category of the annotation file, in its order."""
        return tuple(
            ClassScores(
                key,
                name,
                int(self.curves[key].num_truth[0]) if key in self.curves else 0,
                self.num_results.get(key, 0),
                _summarise([self.curves[key]] if key in self.curves else [], self.groups),
            )
            for key, name in self.categories.items()
        )


def _by_category(tracks: Iterable[Track]) -> dict[int, list[Track]]:
    grouped: dict[int, list[Track]] = defaultdict(list)
    for track in tracks:
        grouped[track.category_id].append(track)
    return grouped


def _best(tracks: Sequence[Track]) -> list[Track]:
    """The predictions that count, best first; equal scores keep their order."""
    return [tracks[place] for place in best_scored([t.score for t in tracks], MAX_DETS[-1])]


def _outside(values: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    # written so that NaN, an unknown value, is outside
    return ~((values >= bounds[0]) & (values <= bounds[1]))


def _match_video(
    dts: Sequence[Track], gts: Sequence[Track], groups: Mapping[str, tuple[float, float]]
) -> dict[int, Matches]:
    """Matches the tracks of a video, by category."""
    dts_of = {key: _best(tracks) for key, tracks in _by_category(dts).items()}
    gts_of = _by_category(gts)
    outcome = {}
    for key in [*gts_of, *(dts_of.keys() - gts_of.keys())]:
        some_dts, some_gts = dts_of.get(key, []), gts_of.get(key, [])
        outcome[key] = _match_category(some_dts, some_gts, pairwise_iou(some_dts, some_gts), groups)
    return outcome


def _match_category(
    dts: Sequence[Track],
    gts: Sequence[Track],
    ious: np.ndarray,
    groups: Mapping[str, tuple[float, float]],
) -> Matches:
    """Matches the tracks of a video and category in every group of sizes and occlusion."""
    dt_areas = np.array([dt.area for dt in dts], dtype=np.float64)
    gt_areas = np.array([gt.area for gt in gts], dtype=np.float64)
    occlusions = np.array([gt.occlusion for gt in gts], dtype=np.float64)
    crowd = np.array([gt.crowd for gt in gts], dtype=bool)
    truth_ignored, outside = [], []
    for name, bounds in groups.items():
        by_area = name in AREA_RANGES
        truth_ignored.append(crowd | _outside(gt_areas if by_area else occlusions, bounds))
        # a prediction has no occlusion: it counts in each such group
        outside.append(_outside(dt_areas, bounds) & by_area)
    return match_tracks(
        np.array([dt.score for dt in dts], dtype=np.float64),
        ious,
        IOU_THRESHOLDS,
        truth_ignored=np.array(truth_ignored).reshape(len(groups), len(gts)),
        truth_crowd=crowd,
        outside=np.array(outside).reshape(len(groups), len(dts)),
    )


def _mean(values: np.ndarray) -> float:
    scored = values[values > -1]
    return float(scored.mean()) if len(scored) else -1.0


def _summarise(curves: Sequence[CategoryCurves], names: Sequence[str]) -> dict[str, float]:
    """Means over thresholds, points of recall, and categories that have an annotation."""
    curves = curves or [CategoryCurves.nothing(len(names), len(IOU_THRESHOLDS), len(MAX_DETS))]
    place = {name: index for index, name in enumerate(names)}
    precision = np.stack([curve.precision for curve in curves])
    recall = np.stack([curve.recall for curve in curves])
    metrics = {
        'AP': _mean(precision[:, 0]),
        'AP_50': _mean(precision[:, 0, 0]),
        'AP_75': _mean(precision[:, 0, 5]),
    }
    metrics |= {f'AP_{name}': _mean(precision[:, place[name]]) for name in 'sml'}
    metrics |= {f'AR_{limit}': _mean(recall[:, 0, :, m]) for m, limit in enumerate(MAX_DETS)}
    metrics |= {f'AR_{name}': _mean(recall[:, place[name], :, -1]) for name in 'sml'}
    metrics |= {
        f'AP_{name}': _mean(precision[:, place[name]]) for name in OCCLUSION_RANGES if name in names
    }
    return metrics


def evaluate_vis(
    gt: Source | Mapping[str, Any] | GroundTruth,
    results: Source | Sequence[Entry],
    *,
    iou_type: Literal['segm', 'box', 'auto'] = 'auto',
    class_agnostic: bool = False,
) -> dict[str, float]:
    """Scores tracks against annotations, both in the YouTube-VIS layout.

    In each video and category the 100 best predictions are matched greedily to annotations by
    spatio-temporal IoU, at the thresholds 0.50, 0.55, ..., 0.95. AP is the precision pooled over
    the videos, interpolated at 101 points of recall, and averaged over thresholds and over the
    categories that have an annotation. AR_1, AR_10 and AR_100 are the highest recall with that
    many predictions a video and category. ``_s``, ``_m``, ``_l`` are tracks with a mean area
    below 128², between, and above 256² pixels. ``_so``, ``_mo``, ``_ho`` (paper section 4) are
    slightly, moderately and heavily occluded tracks. Ids of annotations are not used.

    Args:
        gt: path of an annotation file, or its loaded json.
        results: path of a result file (json, or a zip that holds it), or its loaded list.
        iou_type: 'segm' compares masks; 'box' compares ``bboxes``, or the bounding boxes of the
            masks of whoever has none; 'auto' takes masks if there are annotations with them.
        class_agnostic: take all categories for one. Results with the same masks, one query with
            several classes, then count once, with the best of their scores.

    Returns:
        AP, AP_50, AP_75, AP_s, AP_m, AP_l, AR_1, AR_10, AR_100, AR_s, AR_m, AR_l, and, where
        annotations have ``occlusion``, AP_so, AP_mo, AP_ho: unrounded, in [0, 1], -1 where there
        is no annotation to find.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if something is wrong with an entry; names file, index and field.
    """
    return VISEvaluation.run(gt, results, iou_type=iou_type, class_agnostic=class_agnostic).metrics
