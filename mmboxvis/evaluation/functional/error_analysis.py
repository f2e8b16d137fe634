"""Where AP is lost: errors by kind, and what mending one kind at a time would gain.

After TIDE (Bolya et al., 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors"),
carried over from boxes to tracks. Shapes: L IoU thresholds, D predictions and G annotations of a
video, N predictions and K categories of all videos.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .accumulate import interpolated_precision
from .layout import Entry, GroundTruth, IouType, Source
from .matching import match_tracks
from .tracks import Track, best_scored, class_ids, pairwise_iou, read_pair, result_tracks
from .vis_eval import IOU_THRESHOLDS, MAX_DETS

BACKGROUND_IOU = 0.1
ERROR_KINDS = (
    'classification',
    'mask_quality',
    'association',
    'class_and_mask',
    'duplicate',
    'background',
    'missed',
)
_RIGHT, _IGNORED = -1, -2
_REMOVED = np.iinfo(np.int64).min  # a category may have any other id
_CODE = {kind: code for code, kind in enumerate(ERROR_KINDS)}
# kinds that are mended by making the prediction right
_MENDABLE = ('classification', 'mask_quality', 'association')


@dataclass(frozen=True)
class TrackError:
    """One error.

    Attributes:
        kind: one of :data:`ERROR_KINDS`.
        video_id: id in the annotation file.
        category_id: of the prediction, or of the annotation that was missed.
        score: of the prediction, NaN for a missed annotation.
        iou: of prediction and annotation, 0 where one of them is missing.
        result: index in the list of results, -1 for a missed annotation.
        annotation: index in the ``annotations`` of the file, -1 for ``background``.
    """

    kind: str
    video_id: int
    category_id: int
    score: float
    iou: float
    result: int
    annotation: int


@dataclass(frozen=True)
class ErrorAnalysis:
    """AP as it is, and what it would gain if one kind of error were mended everywhere.

    A prediction that is wrong at an IoU threshold ``t`` has the first kind that fits. IoU is
    spatio-temporal, crowds are left out, ``b`` is the background's IoU:

    - duplicate: IoU >= t with an annotation of its class, which a better scored one has taken.
    - classification: IoU >= t with an annotation of another class.
    - association: b <= IoU < t with an annotation of its class, while over the frames in which
      the two overlap (IoU of the frame >= b) it is >= t: the masks are good, but the track is on
      the object in too few frames, or elsewhere in others (switched, broken, begun late).
    - mask_quality: b <= IoU < t with an annotation of its class, and no association error.
    - class_and_mask: b <= IoU < t with an annotation of another class.
    - background: IoU < b with all annotations.

    missed: an annotation without a right prediction, nor one that mending its class, mask or
    association would make right.

    Mending makes the best scored prediction right that has the kind at an annotation still to be
    found, in the annotation's class, and removes the others of the kind. The last three kinds are
    removed; missed annotations are no longer asked for. A category in which nothing is left to
    find has an AP of 1. Gains do not add up to what is missing, since one error can hide another.

    Example:
        >>> analysis = ErrorAnalysis.run('valid.json', 'results.json')
        >>> dict(zip(analysis.gains, (gain[0] for gain in analysis.gains.values())))  # at IoU 0.5

    Attributes:
        iou_type: 'segm' or 'box'.
        thresholds: (L,) ascending.
        ap: (L,) float64 at each threshold, as in :func:`evaluate_vis`; -1 without annotations.
        gains: for each of :data:`ERROR_KINDS`, and for ``false_positives`` (all wrong predictions
            removed) and ``false_negatives`` (nothing asked for that was not found), (L,) float64,
            at least 0 but for rounding.
        counts: for each kind, (L,) int64, number of errors.
        errors: those at the lowest threshold, videos in ascending order of id.
    """

    iou_type: IouType
    thresholds: np.ndarray
    ap: np.ndarray
    gains: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    errors: tuple[TrackError, ...]

    @classmethod
    def run(
        cls,
        gt: Source | Mapping[str, Any] | GroundTruth,
        results: Source | Sequence[Entry],
        *,
        iou_type: Literal['segm', 'box', 'auto'] = 'auto',
        thresholds: Sequence[float] | np.ndarray = IOU_THRESHOLDS,
        background_iou: float = BACKGROUND_IOU,
    ) -> ErrorAnalysis:
        """Analyses results.

        Args:
            gt: annotation file in the YouTube-VIS layout, or its loaded json.
            results: result file, or its loaded list.
            iou_type: see :func:`evaluate_vis`.
            thresholds: L, above ``background_iou`` and up to 1, ascending.
            background_iou: a prediction with less IoU has nothing to do with an annotation.

        Raises:
            FileNotFoundError: if a path does not exist.
            ValueError: if something is wrong with an entry, naming file, index and field; or if
                the thresholds are not ascending between ``background_iou`` and 1.
        """
        levels = np.asarray(thresholds, dtype=np.float64)
        _check_thresholds(levels, background_iou)
        truth, gts, entries, settled = read_pair(gt, results, iou_type)
        dts = result_tracks(entries, settled)
        annotations = _positions(truth.annotations or ())
        rows = _positions(entries)
        videos = [
            _Video.compare(
                dts.get(video_id, []),
                gts[video_id],
                levels,
                background_iou,
                video_id=video_id,
                results=rows[video_id],
                annotations=annotations[video_id],
            )
            for video_id in truth.videos
        ]
        pool = _Pool.of(videos, len(levels))
        gains, ap = pool.gains()
        counts = {kind: (pool.kinds == code).sum(1) for kind, code in _CODE.items()}
        # no prediction has this kind: it is counted by the annotations
        counts['missed'] = sum((v.missed.sum(1) for v in videos), start=counts['missed'])
        errors = tuple(error for video in videos for error in video.errors())
        return cls(settled, levels, ap, gains, counts, errors)


def _check_thresholds(levels: np.ndarray, background_iou: float) -> None:
    if not 0 < background_iou < 1:
        raise ValueError(f'background_iou must lie between 0 and 1, got {background_iou}')
    if levels.ndim != 1 or not len(levels) or not (np.diff(levels) > 0).all():
        raise ValueError(f'thresholds must be a list in ascending order, got {levels.tolist()}')
    if not (background_iou < levels[0] and levels[-1] <= 1):
        raise ValueError(
            f'thresholds must lie above {background_iou} (background_iou) and be at most 1, '
            f'got {levels.tolist()}'
        )


def _positions(entries: Sequence[Entry]) -> dict[int, list[int]]:
    """Indices of the entries of each video, in the order of the list."""
    found: dict[int, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        found[int(entry['video_id'])].append(index)
    return found


@dataclass(frozen=True)
class _Video:
    """The predictions of a video that count, compared with its annotations.

    Attributes:
        kinds: (L, D) int64, code of the error, or right, or ignored.
        targets: (L, D) int64, annotation that the error is about, -1 for background.
        found: (L, G) bool, has a right prediction.
        missed: (L, G) bool.
        ious: (D, G) float64.
        results, annotations: D and G places in the files.
    """

    video_id: int
    dts: Sequence[Track]
    gts: Sequence[Track]
    kinds: np.ndarray
    targets: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    ious: np.ndarray
    results: Sequence[int]
    annotations: Sequence[int]

    @classmethod
    def compare(
        cls,
        dts: Sequence[Track],
        gts: Sequence[Track],
        levels: np.ndarray,
        background_iou: float,
        *,
        video_id: int,
        results: Sequence[int],
        annotations: Sequence[int],
    ) -> _Video:
        order = _best_of_each_category(dts)
        dts, results = [dts[index] for index in order], [results[index] for index in order]
        ious = pairwise_iou(dts, gts)
        where_close = pairwise_iou(dts, gts, min_frame_iou=background_iou)
        right, ignored, found = _match(dts, gts, ious, levels)
        crowd = np.array([gt.crowd for gt in gts], dtype=bool)
        same = class_ids(dts)[:, None] == class_ids(gts)
        kinds, targets = _kinds(ious, where_close, same, ~crowd, levels, background_iou)
        kinds = np.where(right, _RIGHT, np.where(ignored, _IGNORED, kinds))
        missed = ~found & ~crowd
        mendable = np.isin(kinds, [_CODE[kind] for kind in _MENDABLE])
        level, dt = np.nonzero(mendable)
        missed[level, targets[level, dt]] = False
        return cls(video_id, dts, gts, kinds, targets, found, missed, ious, results, annotations)

    def errors(self) -> Iterator[TrackError]:
        """Errors at the lowest threshold: predictions in the order of the file, then misses."""
        for row in np.argsort(self.results):
            kind, target = int(self.kinds[0, row]), int(self.targets[0, row])
            if kind >= 0:
                dt = self.dts[row]
                yield TrackError(
                    ERROR_KINDS[kind],
                    self.video_id,
                    dt.category_id,
                    dt.score,
                    float(self.ious[row, target]) if target >= 0 else 0.0,
                    self.results[row],
                    self.annotations[target] if target >= 0 else -1,
                )
        for column in np.flatnonzero(self.missed[0]):
            category_id = self.gts[column].category_id
            index = self.annotations[column]
            yield TrackError('missed', self.video_id, category_id, math.nan, 0.0, -1, index)


def _best_of_each_category(dts: Sequence[Track]) -> list[int]:
    """Positions of the predictions that count, best first within a category."""
    of_category: dict[int, list[int]] = defaultdict(list)
    for index, dt in enumerate(dts):
        of_category[dt.category_id].append(index)
    return [
        indices[place]
        for indices in of_category.values()
        for place in best_scored([dts[index].score for index in indices], MAX_DETS[-1])
    ]


def _match(
    dts: Sequence[Track], gts: Sequence[Track], ious: np.ndarray, levels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which predictions are right, which are ignored (L, D), which annotations found (L, G)."""
    right = np.zeros((len(levels), len(dts)), dtype=bool)
    ignored = np.zeros_like(right)
    found = np.zeros((len(levels), len(gts)), dtype=bool)
    dt_labels, gt_labels = class_ids(dts), class_ids(gts)
    for category_id in np.unique(dt_labels):
        rows, columns = (np.flatnonzero(x == category_id) for x in (dt_labels, gt_labels))
        crowd = np.array([gts[column].crowd for column in columns], dtype=bool)
        matches = match_tracks(
            np.array([dts[row].score for row in rows]),
            ious[np.ix_(rows, columns)],
            levels,
            truth_ignored=crowd[None],
            truth_crowd=crowd,
            outside=np.zeros((1, len(rows)), dtype=bool),
        )
        ignored[:, rows] = matches.ignored[0]
        right[:, rows] = matches.hit[0] & ~matches.ignored[0]
        level, place = np.nonzero(right[:, rows])
        found[level, columns[matches.truth[0, level, place]]] = True
    return right, ignored, found


def _kinds(
    ious: np.ndarray,
    where_close: np.ndarray,
    same: np.ndarray,
    wanted: np.ndarray,
    levels: np.ndarray,
    background_iou: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Kind that each prediction has if it is wrong, and the annotation concerned, both (L, D).

    Args:
        ious: (D, G).
        where_close: (D, G), over the frames where the two overlap.
        same: (D, G) bool, prediction and annotation have one class.
        wanted: (G,) bool, no crowd.
        levels: (L,).
        background_iou: see :class:`ErrorAnalysis`.
    """
    num_dts, num_gts = ious.shape
    shape = (len(levels), num_dts)
    if not num_gts:
        return np.full(shape, _CODE['background']), np.full(shape, -1)
    rows = np.arange(num_dts)

    def best(pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # below every IoU, so that an annotation outside of the pool is never taken
        ranked = np.where(pool & wanted, ious, -1.0)
        place = ranked.argmax(1)
        return place, ranked[rows, place]

    own, own_iou = best(same)
    other, other_iou = best(~same)
    limits = np.minimum(levels, 1 - 1e-10)[:, None]
    is_own = own_iou >= background_iou
    choices = (
        ('duplicate', own_iou >= limits, own),
        ('classification', other_iou >= limits, other),
        ('association', is_own & (where_close[rows, own] >= limits), own),
        ('mask_quality', is_own, own),
        ('class_and_mask', other_iou >= background_iou, other),
    )
    conditions = [np.broadcast_to(condition, shape) for _, condition, _ in choices]
    codes = [np.full(shape, _CODE[kind]) for kind, _, _ in choices]
    places = [np.broadcast_to(place, shape) for _, _, place in choices]
    return (
        np.select(conditions, codes, _CODE['background']),
        np.select(conditions, places, -1),
    )


@dataclass(frozen=True)
class _Pool:
    """The predictions of all videos, in the order that AP pools them.

    Attributes:
        scores: (N,).
        labels: (N,) category ids.
        kinds: (L, N), see :class:`_Video`.
        mended: (L, N) category id in which the prediction is right once its kind is mended, or
            :data:`_REMOVED`.
        num_truth: annotations to find by category.
        num_missed, num_found: (L,) by category.
    """

    scores: np.ndarray
    labels: np.ndarray
    kinds: np.ndarray
    mended: np.ndarray
    num_truth: dict[int, int]
    num_missed: dict[int, np.ndarray]
    num_found: dict[int, np.ndarray]

    @classmethod
    def of(cls, videos: Sequence[_Video], num_levels: int) -> _Pool:
        scores = np.array([dt.score for video in videos for dt in video.dts], dtype=np.float64)
        nothing = np.zeros((num_levels, 0), dtype=np.int64)
        kinds = np.concatenate([nothing, *(video.kinds for video in videos)], axis=1)
        mended = np.concatenate([nothing, *map(_mended, videos)], axis=1)
        num_truth: dict[int, int] = defaultdict(int)
        num_missed: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(num_levels, np.int64))
        num_found: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(num_levels, np.int64))
        for video in videos:
            for column, gt in enumerate(video.gts):
                if not gt.crowd:
                    num_truth[gt.category_id] += 1
                    num_missed[gt.category_id] += video.missed[:, column]
                    num_found[gt.category_id] += video.found[:, column]
        labels = np.concatenate([np.zeros(0, np.int64), *(class_ids(v.dts) for v in videos)])
        return cls(scores, labels, kinds, mended, dict(num_truth), num_missed, num_found)

    def gains(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Gain of each kind and AP as it is, all (L,)."""
        names = (*ERROR_KINDS, 'false_positives', 'false_negatives')
        levels = range(len(self.kinds))
        ap = np.array([self._ap(level, '') for level in levels])
        if not self.num_truth:
            return {name: np.zeros(len(ap)) for name in names}, ap
        return {
            name: np.array([self._ap(level, name) for level in levels]) - ap for name in names
        }, ap

    def _ap(self, level: int, mend: str) -> float:
        """Mean AP at one threshold with one kind of error mended, ``''`` for none."""
        kinds, labels = self.kinds[level], self.labels
        right, wrong = kinds == _RIGHT, kinds >= 0
        if mend == 'false_positives':
            wrong = np.zeros_like(wrong)
        elif mend in _CODE:
            chosen = kinds == _CODE[mend]
            turned = chosen & (self.mended[level] != _REMOVED)
            labels = np.where(turned, self.mended[level], labels)
            right, wrong = right | turned, wrong & ~chosen
        order = np.lexsort((-self.scores, labels))
        bounds = np.searchsorted(labels[order], [*self.num_truth], side='left')
        ends = np.searchsorted(labels[order], [*self.num_truth], side='right')
        scores = []
        for (category_id, to_find), begin, end in zip(self.num_truth.items(), bounds, ends):
            if mend == 'missed':
                to_find -= int(self.num_missed[category_id][level])
            elif mend == 'false_negatives':
                to_find = int(self.num_found[category_id][level])
            rows = order[begin:end]
            scores.append(
                interpolated_precision(right[rows], wrong[rows], to_find).mean() if to_find else 1.0
            )
        return float(np.mean(scores)) if scores else -1.0


def _mended(video: _Video) -> np.ndarray:
    """See :class:`_Pool`: at each annotation still to be found the best scored prediction."""
    mended = np.full(video.kinds.shape, _REMOVED)
    by_score = np.argsort([-dt.score for dt in video.dts], kind='stable')
    labels = class_ids(video.gts)
    for kind in _MENDABLE:
        for level, of_level in enumerate(video.kinds == _CODE[kind]):
            rows = by_score[of_level[by_score]]
            targets, first = np.unique(video.targets[level, rows], return_index=True)
            free = ~video.found[level, targets]
            mended[level, rows[first[free]]] = labels[targets[free]]
    return mended
