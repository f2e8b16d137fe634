"""Selection of candidates and mask quality."""

from __future__ import annotations

import pytest
import torch

from mmboxvis.models.trackers import (
    mask_quality,
    mask_quality_counts,
    presence_factor,
    select_candidates,
    select_classes,
)


def test_no_queries_no_candidates() -> None:
    found = select_candidates(torch.zeros(0, 4))
    assert [len(x) for x in found] == [0, 0, 0]


def test_at_least_min_candidates() -> None:
    scores = torch.tensor([[0.01, 0.5], [0.03, 0.02]])
    found = select_candidates(scores, min_candidates=3)
    assert found.query_inds.tolist() == [0, 1, 1]
    assert found.labels.tolist() == [1, 0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.5, 0.03, 0.02]))


def test_fewer_pairs_than_min_candidates() -> None:
    found = select_candidates(torch.tensor([[0.01, 0.5]]))
    assert found.labels.tolist() == [1, 0]


def test_all_above_threshold_are_kept() -> None:
    scores = torch.rand(30, 5)
    found = select_candidates(scores, score_thr=0.05, min_candidates=10)
    expected = sorted(
        ((float(scores[q, k]), q, k) for q in range(30) for k in range(5) if scores[q, k] > 0.05),
        reverse=True,
    )
    assert list(zip(*(x.tolist() for x in (found.scores, found.query_inds, found.labels)))) == (
        expected
    )


def test_threshold_is_exclusive() -> None:
    scores = torch.tensor([[0.5, 0.25, 0.125]])
    assert len(select_candidates(scores, score_thr=0.25, min_candidates=1).scores) == 1


def test_quality_of_nothing_is_zero() -> None:
    assert mask_quality_counts(torch.zeros(0, 4, 4)).shape == (0, 2)
    assert mask_quality(mask_quality_counts(torch.full((1, 4, 4), -9.0))).tolist() == [0.0]


def test_quality_adds_up_over_frames() -> None:
    logits = torch.randn(5, 7, 12, 10) * 2  # tracks, frames
    counts = sum(mask_quality_counts(frame) for frame in logits.unbind(1))
    whole = [(track > 1).sum() / (track > -1).sum() for track in logits]
    torch.testing.assert_close(mask_quality(counts), torch.stack(whole))


def test_quality_thresholds() -> None:
    logits = torch.tensor([[[1.0, 1.5, -1.0, -0.5]]])
    assert mask_quality_counts(logits).tolist() == [[1, 3]]
    assert mask_quality_counts(logits, 0.0, 0.0).tolist() == [[2, 2]]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_quality_in_half_precision(dtype: torch.dtype) -> None:
    logits = torch.full((1, 400, 400), 5.0, dtype=dtype)  # more pixels than half precision counts
    counts = mask_quality_counts(logits)
    assert counts.tolist() == [[160000, 160000]]
    assert mask_quality(counts).tolist() == [1.0]


def test_presence_factor() -> None:
    found = presence_factor(torch.tensor([0, 1, 10]), 10)
    torch.testing.assert_close(found, 1 - torch.exp(-torch.tensor([0.0, 0.3, 3.0])))
    assert presence_factor(torch.zeros(2), 0).tolist() == [0.0, 0.0]


def test_select_classes() -> None:
    scores = torch.tensor([[0.1, 0.3], [0.2, 0.0]])
    found = select_classes(scores)
    assert found.query_inds.tolist() == [0, 1, 0, 1]
    assert found.labels.tolist() == [1, 0, 0, 1]
    assert len(select_classes(scores, 0.1).scores) == 2
    assert len(select_classes(scores[:0]).scores) == 0
