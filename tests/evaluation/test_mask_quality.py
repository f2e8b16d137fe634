"""Best IoU of each annotated track."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmboxvis.evaluation.functional import mean_best_iou
from tests.reference import vis_eval as plain


def row(start: int, end: int) -> dict:
    """Mask of the pixels start..end of a frame of (1, 20)."""
    mask = np.zeros((1, 20), dtype=np.uint8, order='F')
    mask[0, start:end] = 1
    return mask_api.encode(mask)


def make_gt(*tracks: dict) -> dict:
    return dict(
        videos=[dict(id=i, height=1, width=20, length=1) for i in (2, 1)],
        categories=[dict(id=1, name='cat'), dict(id=2, name='dog')],
        annotations=list(tracks),
    )


def track(video_id: int, category_id: int, mask: dict, **more: float) -> dict:
    return dict(video_id=video_id, category_id=category_id, segmentations=[mask], **more)


def test_nothing_annotated() -> None:
    quality = mean_best_iou(make_gt(), [track(1, 1, row(0, 5), score=0.5)])
    assert (quality.mean, quality.share_50, quality.share_70) == (-1.0, -1.0, -1.0)
    assert quality.best_ious.shape == quality.video_ids.shape == (0,)


def test_nothing_predicted() -> None:
    quality = mean_best_iou(make_gt(track(1, 1, row(0, 5))), [])
    assert (quality.mean, quality.share_50, quality.share_70) == (0.0, 0.0, 0.0)


def test_best_of_its_own_video() -> None:
    gt = make_gt(
        track(2, 1, row(0, 10)),
        track(1, 1, row(0, 10)),
        track(1, 2, row(10, 20)),
        track(1, 1, row(0, 20), iscrowd=1),
    )
    results = [
        track(1, 1, row(0, 5), score=0.9),
        track(1, 2, row(2, 10), score=0.1),
        track(1, 1, row(10, 16), score=0.2),
    ]
    quality = mean_best_iou(gt, results)
    assert quality.video_ids.tolist() == [1, 1, 2]
    assert quality.best_ious.tolist() == [0.8, 0.6, 0.0]
    assert quality.mean == pytest.approx(1.4 / 3)
    assert quality.share_50 == pytest.approx(2 / 3)
    assert quality.share_70 == pytest.approx(1 / 3)
    by_class = mean_best_iou(gt, results, class_agnostic=False)
    assert by_class.best_ious.tolist() == [0.5, 0.0, 0.0]
    assert by_class.share_50 == pytest.approx(1 / 3)


def test_golden_against_the_plain_iou(golden: Path) -> None:
    import json

    folder = golden / 'eval'
    gt, results = (
        json.loads((folder / f'eval_{name}.json').read_text()) for name in ('gt', 'results')
    )
    quality = mean_best_iou(gt, results)
    expected = [
        max(
            plain.mask_iou(r['segmentations'], a['segmentations'])
            for r in results
            if r['video_id'] == a['video_id']
        )
        for a in sorted(gt['annotations'], key=lambda a: a['video_id'])
    ]
    assert quality.best_ious.tolist() == expected
