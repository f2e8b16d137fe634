from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mmboxvis.models.losses.point_sampling import (
    sample_points,
    sample_shared_points,
    sample_uncertain_points,
)
from mmboxvis.models.losses.pseudo_mask_loss import PseudoMaskLoss
from mmboxvis.registry import MODELS
from tests.reference.assigner import read_point
from tests.reference.mask_loss import mask_loss

SIZES = st.integers(1, 5)


@pytest.mark.parametrize('frames', [1, 3])
def test_no_instance_gives_zeros_with_a_graph(frames: int) -> None:
    logits = torch.zeros(4, frames, 6, 8, requires_grad=True)
    losses = PseudoMaskLoss()(logits[:0], torch.zeros(0, frames, 24, 32), 1.0)
    assert [loss.item() for loss in losses] == [0, 0]
    sum(losses).backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_black_target_costs_what_the_foreground_is_worth() -> None:
    loss = PseudoMaskLoss(mask_weight=1, dice_weight=1, num_points=40)
    inside = torch.full((2, 3, 1, 40, 1), 0.25).view(6, 40, 1).expand(6, 40, 2)
    logits, masks = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 16, 16)
    bce, dice = loss(logits, masks, 2.0, points=inside)
    # six rows, two instances a process: log 2 and 1 - 1/(20 + 1) each
    assert bce.item() == pytest.approx(3 * 0.6931472)
    assert dice.item() == pytest.approx(3 * 20 / 21)


def test_frames_are_summed_and_weights_applied() -> None:
    logits, masks = torch.randn(1, 1, 5, 5), torch.rand(1, 1, 20, 20)
    points = torch.rand(1, 30, 2)
    one = PseudoMaskLoss(mask_weight=1, dice_weight=1)(logits, masks, 1.0, points=points)
    many = PseudoMaskLoss(mask_weight=3, dice_weight=5)(
        logits.expand(2, 4, -1, -1),
        masks.expand(2, 4, -1, -1),
        torch.tensor(2.0),
        points=points.expand(8, -1, -1),
    )
    assert_close(many[0], one[0] * 12)
    assert_close(many[1], one[1] * 20)


def test_weights_are_of_instances_with_all_their_frames() -> None:
    logits, masks, points = torch.randn(2, 3, 5, 5), torch.rand(2, 3, 20, 20), torch.rand(6, 30, 2)
    loss = PseudoMaskLoss()
    parts = [
        loss(logits[i : i + 1], masks[i : i + 1], 1.0, points=points[3 * i : 3 * i + 3])
        for i in range(2)
    ]
    weighted = loss(logits, masks, 1.0, points=points, weights=torch.tensor([0.25, 1.0]))
    for kind in range(2):
        assert_close(weighted[kind], 0.25 * parts[0][kind] + parts[1][kind])


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 2), st.integers(1, 2), SIZES, SIZES, SIZES, SIZES, st.integers(0, 2**16))
def test_value_and_gradient_equal_the_loops(
    num: int, frames: int, h: int, w: int, height: int, width: int, seed: int
) -> None:
    torch.manual_seed(seed)
    logits = (2 * torch.randn(num, frames, h, w)).requires_grad_()
    masks, points = torch.rand(num, frames, height, width), torch.rand(num * frames, 4, 2)
    fast = PseudoMaskLoss(mask_weight=2, dice_weight=3)(logits, masks, 1.5, points=points)
    slow = mask_loss(logits, masks, points, 1.5)
    assert_close(fast[0], 2 * slow[0], atol=1e-5, rtol=1e-4)
    assert_close(fast[1], 3 * slow[1], atol=1e-5, rtol=1e-4)
    (fast_grad,) = torch.autograd.grad(fast[0] + fast[1], logits)
    (slow_grad,) = torch.autograd.grad(2 * slow[0] + 3 * slow[1], logits)
    assert_close(fast_grad, slow_grad, atol=1e-5, rtol=1e-4)


def test_default_points_follow_the_seed_and_carry_gradient() -> None:
    loss = PseudoMaskLoss(num_points=50)
    logits = torch.randn(2, 3, 6, 6, requires_grad=True)
    masks = torch.rand(2, 3, 24, 24)
    torch.manual_seed(5)
    first = loss(logits, masks, 1.0)
    torch.manual_seed(5)
    rows = logits.detach().flatten(0, 1)[:, None]
    points = sample_uncertain_points(rows, 50, 3.0, 0.5)
    assert_close(first, loss(logits, masks, 1.0, points=points))
    sum(first).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0


def test_float32_under_autocast() -> None:
    logits, masks = torch.randn(2, 1, 6, 6).bfloat16(), torch.rand(2, 1, 24, 24)
    points = torch.rand(2, 30, 2)
    with torch.autocast('cpu', torch.bfloat16):
        losses = PseudoMaskLoss()(logits, masks, 1.0, points=points)
    assert all(loss.dtype == torch.float32 for loss in losses)
    assert_close(losses, PseudoMaskLoss()(logits.float(), masks, 1.0, points=points))


def test_wrong_input_is_named() -> None:
    with pytest.raises(ValueError, match=r'\(2, 3\).*\(2, 1\)'):
        PseudoMaskLoss()(torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 16, 16), 1.0)
    for name, value in (
        ('num_points', 0),
        ('oversample_ratio', 0.5),
        ('importance_sample_ratio', 1.2),
    ):
        with pytest.raises(ValueError, match=name):
            PseudoMaskLoss(**{name: value})


def test_built_from_config() -> None:
    built = MODELS.build(dict(type='PseudoMaskLoss', mask_weight=5.0, importance_sample_ratio=0.75))
    assert isinstance(built, PseudoMaskLoss)
    assert built.importance_sample_ratio == 0.75


def test_uncertain_points_of_no_row() -> None:
    assert sample_uncertain_points(torch.zeros(0, 1, 4, 4), 10).shape == (0, 10, 2)


@pytest.mark.parametrize('ratio', [0.0, 0.5, 1.0])
def test_uncertain_points_lie_where_the_mask_is_undecided(ratio: float) -> None:
    # undecided along the vertical middle line only
    line = torch.linspace(-10, 10, 64).expand(2, 1, 8, 64)
    points = sample_uncertain_points(line, 200, 3.0, ratio)
    assert points.shape == (2, 200, 2)
    assert points.min() >= 0
    assert points.max() <= 1
    values = sample_points(line, points).abs()
    # at ratio 1 a third of the candidates is chosen, and more than a third lies below 5
    assert (values[:, : int(200 * ratio)] < 5).all()
    assert (values[:, int(200 * ratio) :] > 5).any() == (ratio < 1)


def test_uncertain_points_are_the_smallest_of_the_candidates() -> None:
    logits = torch.randn(3, 1, 7, 9)
    torch.manual_seed(11)
    points = sample_uncertain_points(logits, 20, 3.0, 0.5)
    torch.manual_seed(11)
    candidates, fresh = torch.rand(3, 60, 2), torch.rand(3, 10, 2)
    assert_close(points[:, 10:], fresh)
    for row in range(3):
        by_uncertainty = sorted(
            candidates[row].tolist(), key=lambda xy: abs(float(read_point(logits[row, 0], *xy)))
        )
        assert sorted(points[row, :10].tolist()) == sorted(by_uncertainty[:10])


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), SIZES, SIZES, st.integers(0, 2**16))
def test_sampling_equals_reading_point_by_point(rows: int, h: int, w: int, seed: int) -> None:
    torch.manual_seed(seed)
    maps, points = torch.randn(rows, 2, h, w), torch.rand(rows, 3, 2)
    own = sample_points(maps[:, :1], points)
    shared = sample_shared_points(maps, points[0])
    assert shared.shape == (rows, 2, 3)
    for r in range(rows):
        for p in range(3):
            assert_close(own[r, p], read_point(maps[r, 0], *points[r, p].tolist()))
            for c in range(2):
                assert_close(shared[r, c, p], read_point(maps[r, c], *points[0, p].tolist()))
