"""Errors by kind: empty cases, one planted error of each kind, random cases against the twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.evaluation import ErrorAnalysis
from mmboxvis.evaluation.functional import ERROR_KINDS, evaluate_vis
from tests.evaluation.test_vis_eval import make_gt, rect, result
from tests.reference import error_analysis as plain

LENGTH = 6
LEFT, RIGHT = [rect((0, 0, 6, 6))] * LENGTH, [rect((9, 5, 15, 11))] * LENGTH
HALF_OF_LEFT = [rect((0, 0, 3, 4))] * LENGTH
NOWHERE = [rect((0, 10, 4, 12))] * LENGTH
SWITCHED = LEFT[:3] + RIGHT[3:]
BROKEN = [*LEFT[:2], *[None] * (LENGTH - 2)]


def gt_of(*tracks: list, categories: tuple[int, ...] = (), num_videos: int = 1) -> dict:
    labels = categories or (1,) * len(tracks)
    annotations = [
        dict(segmentations=track, category_id=label)
        for track, label in zip(tracks, labels, strict=True)
    ]
    return make_gt(annotations, num_videos, LENGTH)


def planted(gt: dict, results: list[dict]) -> dict[str, int]:
    """Kinds found at IoU 0.5, after the twin agreed on all figures."""
    analysis = ErrorAnalysis.run(gt, results, thresholds=(0.5, 0.75, 0.9))
    for level, threshold in enumerate(analysis.thresholds):
        ap, gains, counts = plain.analyse(gt, results, float(threshold))
        assert analysis.ap[level] == pytest.approx(ap, abs=1e-9)
        assert {kind: analysis.counts[kind][level] for kind in ERROR_KINDS} == counts
        for kind in ERROR_KINDS:
            assert analysis.gains[kind][level] == pytest.approx(gains[kind], abs=1e-9), kind
            assert analysis.gains[kind][level] > -1e-9
    return {kind: int(n[0]) for kind, n in analysis.counts.items() if n[0]}


def gains_of(gt: dict, results: list[dict]) -> dict[str, float]:
    gains = ErrorAnalysis.run(gt, results, thresholds=(0.5,)).gains
    return {kind: float(gain[0]) for kind, gain in gains.items() if abs(gain[0]) > 1e-9}


def test_nothing_at_all() -> None:
    analysis = ErrorAnalysis.run(make_gt([]), [])
    assert (analysis.ap == -1).all() and not analysis.errors
    assert not any(gain.any() for gain in analysis.gains.values())


def test_predictions_without_annotations() -> None:
    analysis = ErrorAnalysis.run(gt_of(), [result(LEFT)])
    assert (analysis.ap == -1).all()
    assert [error.kind for error in analysis.errors] == ['background']


def test_no_predictions() -> None:
    gt = gt_of(LEFT, RIGHT)
    assert planted(gt, []) == {'missed': 2}
    assert gains_of(gt, []) == pytest.approx({'missed': 1.0, 'false_negatives': 1.0})


def test_perfect() -> None:
    gt = gt_of(LEFT, RIGHT)
    results = [result(LEFT, 0.9), result(RIGHT, 0.8)]
    assert planted(gt, results) == {}
    assert gains_of(gt, results) == {}


@pytest.mark.parametrize(
    ('kind', 'wrong'),
    [
        ('classification', result(LEFT, 0.9, category_id=3)),
        ('mask_quality', result(HALF_OF_LEFT, 0.9)),
        ('association', result(BROKEN, 0.9)),
    ],
)
def test_one_error_at_an_object_that_is_otherwise_lost(kind: str, wrong: dict) -> None:
    """Such an error hides a miss: mending it finds the object."""
    gt = gt_of(LEFT)
    assert planted(gt, [wrong]) == {kind: 1}
    assert gains_of(gt, [wrong])[kind] == pytest.approx(1.0)
    (error,) = ErrorAnalysis.run(gt, [wrong]).errors
    assert (error.kind, error.result, error.annotation) == (kind, 0, 0)


def test_identity_switch_is_association_and_hides_the_other_objects_miss() -> None:
    gt = gt_of(LEFT, RIGHT)
    # equally good at both: the first is taken, the second is missed
    assert planted(gt, [result(SWITCHED)]) == {'association': 1, 'missed': 1}
    both = [result(SWITCHED, 0.9), result(RIGHT[:3] + LEFT[3:], 0.8)]
    assert planted(gt_of(LEFT, RIGHT), both)['association'] == 2


def test_switch_with_poor_masks_is_mask_quality() -> None:
    assert planted(gt_of(LEFT), [result(HALF_OF_LEFT[:4] + RIGHT[4:])]) == {'mask_quality': 1}


def test_duplicate() -> None:
    gt = gt_of(LEFT, RIGHT)
    results = [result(LEFT, 0.9), result(LEFT, 0.8), result(RIGHT, 0.7)]
    assert planted(gt, results) == {'duplicate': 1}
    assert gains_of(gt, results) == pytest.approx(
        {kind: 1 - (51 + 50 * 2 / 3) / 101 for kind in ('duplicate', 'false_positives')}
    )


def test_background() -> None:
    results = [result(NOWHERE, 0.9), result(LEFT, 0.8)]
    assert planted(gt_of(LEFT), results) == {'background': 1}
    assert gains_of(gt_of(LEFT), results)['background'] == pytest.approx(0.5)


def test_class_and_mask() -> None:
    results = [result(HALF_OF_LEFT, 0.9, category_id=3)]
    assert planted(gt_of(LEFT), results) == {'class_and_mask': 1, 'missed': 1}


def test_mending_a_class_twice_removes_the_second() -> None:
    gt = gt_of(LEFT, RIGHT, categories=(1, 3))
    results = [result(LEFT, 0.9, category_id=3), result(LEFT, 0.8, category_id=3)]
    assert planted(gt, results) == {'classification': 2, 'missed': 1}
    # the first finds the cat; no wrong dog is left, but the dog is still missed
    assert gains_of(gt, results)['classification'] == pytest.approx(0.5)


def test_wrong_class_of_an_object_that_is_found() -> None:
    """One query under several classes: nothing to mend but to remove the wrong ones."""
    gt = gt_of(LEFT, RIGHT, categories=(1, 3))
    results = [
        result(LEFT, 0.9),
        result(LEFT, 0.8, category_id=3),
        result(RIGHT, 0.7, category_id=3),
    ]
    assert planted(gt, results) == {'classification': 1}
    assert gains_of(gt, results)['classification'] == pytest.approx(0.25)


def test_crowds_are_no_errors() -> None:
    gt = gt_of(LEFT, RIGHT)
    gt['annotations'][1]['iscrowd'] = 1
    results = [result(LEFT, 0.9), result(RIGHT, 0.8), result(RIGHT, 0.7)]
    assert planted(gt, results) == {}
    assert planted(gt, []) == {'missed': 1}


def test_boxes() -> None:
    def boxes(masks: list) -> list:
        return [mask and [0, 0, 6, 6] for mask in masks]

    gt = make_gt([dict(bboxes=boxes(LEFT))], 1, LENGTH)
    broken = dict(video_id=1, category_id=1, score=0.5, bboxes=boxes(BROKEN))
    analysis = ErrorAnalysis.run(gt, [broken])
    assert analysis.iou_type == 'box'
    assert [error.kind for error in analysis.errors] == ['association']


def test_errors_name_their_place_in_the_files() -> None:
    gt = gt_of(LEFT, RIGHT, num_videos=2)
    gt['annotations'][0]['video_id'] = 2
    results = [result(NOWHERE, 0.3, video_id=2), result(LEFT, 0.8, category_id=3, video_id=2)]
    missed, background, classification = ErrorAnalysis.run(gt, results).errors
    assert (missed.kind, missed.video_id, missed.annotation, missed.result) == ('missed', 1, 1, -1)
    assert math.isnan(missed.score)
    assert (background.kind, background.result, background.annotation) == ('background', 0, -1)
    assert (classification.result, classification.annotation) == (1, 0)
    assert classification.iou == 1.0


def test_only_the_best_hundred_of_a_class_count() -> None:
    results = [result(NOWHERE, 0.5 + i / 1000) for i in range(101)]
    assert ErrorAnalysis.run(gt_of(LEFT), results).counts['background'][0] == 100


@pytest.mark.parametrize('thresholds', [(), (0.05,), (0.7, 0.5), (1.1,)])
def test_wrong_thresholds(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match='thresholds must'):
        ErrorAnalysis.run(gt_of(LEFT), [], thresholds=thresholds)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_random_tracks(seed: int) -> None:
    """Objects, and predictions made of them by all kinds of mistakes, against the twin."""
    rng = np.random.default_rng(seed)

    def track() -> list:
        x, y, w, h = rng.integers((0, 0, 3, 3), (9, 6, 7, 6))
        return [rect((x, y, x + w, y + h)) if rng.random() > 0.1 else None for _ in range(LENGTH)]

    truths = [track() for _ in range(rng.integers(0, 5))]
    annotations = [
        dict(
            segmentations=masks,
            category_id=int(rng.choice([1, 3])),
            video_id=int(rng.integers(1, 3)),
            iscrowd=int(rng.random() < 0.1),
        )
        for masks in truths
    ]
    gt = make_gt(annotations, 2, LENGTH)
    results = []
    scores = rng.permutation(50) / 50
    for score in scores[: rng.integers(0, 9)]:
        masks, other = ([*truths, track()][rng.integers(len(truths) + 1)] for _ in range(2))
        cut = int(rng.choice([0, 1, 3, 5]))
        category_id, video_id = int(rng.choice([1, 3])), int(rng.integers(1, 3))
        results.append(result(other[:cut] + masks[cut:], float(score), category_id, video_id))
    planted(gt, results)
    metrics = evaluate_vis(gt, results)
    analysis = ErrorAnalysis.run(gt, results)
    # crowds alone make a category for the evaluator, without anything to find
    assert analysis.ap[0] == pytest.approx(metrics['AP_50'], abs=1e-12)
    assert analysis.ap.mean() == pytest.approx(metrics['AP'], abs=1e-12)
