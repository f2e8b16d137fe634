"""Average precision of video instance segmentation, written as the definition reads.

One pair of tracks, one frame, one threshold, one prediction at a time; no check of the input.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as mask_api

# the benchmark's own floats: an IoU or a recall may lie exactly on one
THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
AREAS = {'all': (0, 1e10), 's': (0, 128**2), 'm': (128**2, 256**2), 'l': (256**2, 1e10)}
OCCLUSIONS = {'so': (0, 0.25), 'mo': (0.25, 0.5), 'ho': (0.5, 1)}
LEVELS = {'no_occlusion': 0.0, 'slight_occlusion': 0.25, 'severe_occlusion': 0.75}


def mask_iou(a: list, b: list) -> float:
    """IoU of two lists of run-lengths or ``None``, by merging the masks of each frame."""
    intersection = union = 0
    for mask_a, mask_b in zip(a, b, strict=True):
        if mask_a and mask_b:
            intersection += int(mask_api.area(mask_api.merge([mask_a, mask_b], intersect=True)))
            union += int(mask_api.area(mask_api.merge([mask_a, mask_b], intersect=False)))
        elif mask_a or mask_b:
            union += int(mask_api.area(mask_a or mask_b))
    return intersection / union if union else 0.0


def box_iou(a: list, b: list) -> float:
    """IoU of two lists of boxes x, y, width, height or ``None``."""
    intersection = union = 0.0
    for box_a, box_b in zip(a, b, strict=True):
        area_a = box_a[2] * box_a[3] if box_a else 0.0
        area_b = box_b[2] * box_b[3] if box_b else 0.0
        both = 0.0
        if box_a and box_b:
            width = min(box_a[0] + box_a[2], box_b[0] + box_b[2]) - max(box_a[0], box_b[0])
            height = min(box_a[1] + box_a[3], box_b[1] + box_b[3]) - max(box_a[1], box_b[1])
            both = max(width, 0) * max(height, 0)
        intersection += both
        union += area_a + area_b - both
    return intersection / union if union else 0.0


def boxes_of(track: dict[str, Any]) -> list:
    """A track's boxes, from its masks where it has none."""
    if track.get('bboxes'):
        return track['bboxes']
    boxes = [mask and mask_api.toBbox(mask).tolist() for mask in track['segmentations']]
    return [box if box and box[2] * box[3] > 0 else None for box in boxes]


def mean_area(track: dict[str, Any], iou_type: str) -> float:
    """Mean area over the frames where there is one."""
    if iou_type == 'box':
        areas = [box[2] * box[3] for box in boxes_of(track) if box]
    else:
        areas = [int(mask_api.area(mask)) for mask in track['segmentations'] if mask]
    areas = [area for area in areas if area > 0]
    return sum(areas) / len(areas) if areas else 0.0


def occlusion(track: dict[str, Any]) -> float | None:
    """Mean of the higher half of the frames' levels."""
    levels = [LEVELS[name] for name in track.get('occlusion', []) if name is not None]
    levels = sorted(levels, reverse=True)[: math.ceil(len(levels) / 2)]
    return sum(levels) / len(levels) if levels else None


def counts(track: dict[str, Any], group: str, iou_type: str) -> bool:
    """Whether an annotation must be found in a group."""
    if track.get('iscrowd'):
        return False
    if group in AREAS:
        return AREAS[group][0] <= mean_area(track, iou_type) <= AREAS[group][1]
    value = occlusion(track)
    return value is not None and OCCLUSIONS[group][0] <= value <= OCCLUSIONS[group][1]


def match(dts: list, gts: list, ious: list, group: str, threshold: float, iou_type: str) -> list:
    """Greedy matching: 'right', 'wrong' or 'ignored' for each prediction, best score first."""
    taken: set[int] = set()
    outcome = []
    for d, dt in enumerate(dts):
        best, best_key = None, None
        for g, gt in enumerate(gts):
            if g in taken and not gt.get('iscrowd'):
                continue
            if ious[d][g] < min(threshold, 1 - 1e-10):
                continue
            key = (counts(gt, group, iou_type), ious[d][g], g)
            if best_key is None or key > best_key:
                best, best_key = g, key
        if best is not None:
            taken.add(best)
            outcome.append('right' if counts(gts[best], group, iou_type) else 'ignored')
        elif group in AREAS and not (AREAS[group][0] <= mean_area(dt, iou_type) <= AREAS[group][1]):
            outcome.append('ignored')
        else:
            outcome.append('wrong')
    return outcome


def interpolated_precision(ordered: list, num_truth: int) -> list[float]:
    """Precision at 101 points of recall: the best one at that recall or a higher one."""
    curve = []
    right = wrong = 0
    for outcome in ordered:
        right += outcome == 'right'
        wrong += outcome == 'wrong'
        curve.append((right / num_truth, right / (right + wrong) if right + wrong else 0.0))
    return [
        max((precision for recall, precision in curve if recall >= point), default=0.0)
        for point in RECALLS
    ]


def compare(
    gt: dict[str, Any],
    results: list[dict[str, Any]],
    video_id: int,
    category_id: int,
    iou_type: str,
) -> tuple[list, list, list]:
    """Best predictions of a video and category, its annotations, and the IoU of each pair."""

    def here(track: dict) -> bool:
        return track['video_id'] == video_id and track['category_id'] == category_id

    dts = sorted(filter(here, results), key=lambda track: -track['score'])[:100]
    gts = list(filter(here, gt['annotations']))
    if iou_type == 'segm':
        return (
            dts,
            gts,
            [
                [mask_iou(dt['segmentations'], track['segmentations']) for track in gts]
                for dt in dts
            ],
        )
    return dts, gts, [[box_iou(boxes_of(dt), boxes_of(track)) for track in gts] for dt in dts]


def score_category(
    compared: list[tuple[list, list, list]], group: str, threshold: float, iou_type: str
) -> tuple[list[float], dict[int, float]] | None:
    """Precision curve and recalls of one category, or ``None`` without an annotation to find."""
    num_truth = sum(counts(track, group, iou_type) for _, gts, _ in compared for track in gts)
    if not num_truth:
        return None
    pooled = []
    for dts, gts, ious in compared:
        outcomes = match(dts, gts, ious, group, threshold, iou_type)
        pooled += [
            (dt['score'], rank, outcome)
            for rank, (dt, outcome) in enumerate(zip(dts, outcomes, strict=True))
        ]
    ordered = [outcome for _, _, outcome in sorted(pooled, key=lambda item: -item[0])]
    recalls = {
        limit: sum(o == 'right' and rank < limit for _, rank, o in pooled) / num_truth
        for limit in (1, 10, 100)
    }
    return interpolated_precision(ordered, num_truth), recalls


def evaluate(
    gt: dict[str, Any], results: list[dict[str, Any]], iou_type: str = 'segm'
) -> dict[str, float]:
    """Scores of loaded json; same keys as the evaluator."""
    with_occlusion = any(occlusion(track) is not None for track in gt['annotations'])
    groups = [*AREAS, *(OCCLUSIONS if with_occlusion else [])]
    precisions: dict = {(group, t): [] for group in groups for t in THRESHOLDS}
    recalls: dict = {(group, limit): [] for group in groups for limit in (1, 10, 100)}
    video_ids = sorted(video['id'] for video in gt['videos'])
    for category in gt['categories']:
        compared = [compare(gt, results, i, category['id'], iou_type) for i in video_ids]
        for group in groups:
            for threshold in THRESHOLDS:
                scores = score_category(compared, group, threshold, iou_type)
                if scores is not None:
                    precisions[group, threshold] += scores[0]
                    for limit, recall in scores[1].items():
                        recalls[group, limit].append(recall)

    def mean(values: list[float]) -> float:
        return sum(values) / len(values) if values else -1.0

    def ap(group: str, thresholds: list[float] = THRESHOLDS) -> float:
        return mean([value for t in thresholds for value in precisions[group, t]])

    metrics = {'AP': ap('all'), 'AP_50': ap('all', THRESHOLDS[:1])}
    metrics['AP_75'] = ap('all', THRESHOLDS[5:6])
    metrics |= {f'AP_{group}': ap(group) for group in 'sml'}
    metrics |= {f'AR_{limit}': mean(recalls['all', limit]) for limit in (1, 10, 100)}
    metrics |= {f'AR_{group}': mean(recalls[group, 100]) for group in 'sml'}
    return metrics | {f'AP_{group}': ap(group) for group in groups if group in OCCLUSIONS}
