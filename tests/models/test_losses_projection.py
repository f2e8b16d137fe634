from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmboxvis.models.losses import ProjectionLoss
from mmboxvis.registry import MODELS
from tests.reference.projection import projection_loss


def random_boxes(count: int, frames: int, height: int, width: int) -> torch.Tensor:
    masks = torch.zeros(count, frames, height, width)
    for mask in masks.flatten(0, 1):
        y, x = int(torch.randint(0, height, ())), int(torch.randint(0, width, ()))
        mask[y : y + height // 2, x : x + width // 2] = float(torch.rand(()) > 0.2)
    return masks


def test_no_instance_gives_zero_with_a_gradient():
    logits = torch.zeros(0, 3, 4, 5, requires_grad=True)
    loss = ProjectionLoss()(logits, torch.zeros(0, 3, 16, 20))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None


@pytest.mark.parametrize('name', ['projection_n1.npz', 'projection_n4.npz'])
def test_golden(golden, name):
    data = {key: torch.from_numpy(value) for key, value in np.load(golden / name).items()}
    logits = data['mask_logits'].requires_grad_()
    loss = ProjectionLoss()(logits, data['box_masks'], avg_factor=data['num_masks'])
    loss.backward()
    torch.testing.assert_close(loss, data['loss'], atol=1e-5, rtol=0)
    torch.testing.assert_close(logits.grad, data['grad'], atol=1e-5, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(
    count=st.integers(1, 3),
    frames=st.integers(1, 3),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    logits_size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    max_side=st.sampled_from([8, 480]),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_loss(count, frames, size, logits_size, max_side, seed):
    assume(min(size) > 1 or max(size) <= max_side)  # else nothing is left after halving
    torch.manual_seed(seed)
    logits = torch.randn(count, frames, *logits_size, dtype=torch.double, requires_grad=True)
    box_masks = random_boxes(count, frames, *size).double()
    loss = ProjectionLoss(max_side=max_side)(logits, box_masks)
    (grad,) = torch.autograd.grad(loss, logits)
    expected = projection_loss(logits, box_masks, max_side) / count
    (expected_grad,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grad, expected_grad, atol=1e-5, rtol=1e-4)


def test_box_filling_mask_costs_nothing_and_an_absent_frame_pushes_down():
    box_masks = torch.zeros(1, 2, 16, 16)
    box_masks[:, 0, 4:12, 4:12] = 1
    logits = (box_masks[..., ::4, ::4] * 2 - 1) * 30
    assert ProjectionLoss()(logits, box_masks) < 0.2
    logits = torch.zeros_like(logits, requires_grad=True)
    ProjectionLoss()(logits, box_masks).backward()
    assert (logits.grad[:, 1] >= 0).all() and logits.grad[:, 1].sum() > 0


def test_weight_and_average_factor():
    logits, box_masks = torch.randn(2, 3, 4, 5), random_boxes(2, 3, 16, 20)
    mean = ProjectionLoss()(logits, box_masks)
    torch.testing.assert_close(ProjectionLoss(5.0)(logits, box_masks), 5 * mean)
    torch.testing.assert_close(
        ProjectionLoss()(logits, box_masks, avg_factor=torch.tensor(4.0)), mean / 2
    )


def test_only_the_released_rule_drops_the_gradient_of_large_inputs():
    logits = torch.randn(1, 2, 4, 121, requires_grad=True)
    box_masks = random_boxes(1, 2, 16, 484)
    losses, grads = [], []
    for detach_large in (False, True):
        loss = ProjectionLoss(detach_large=detach_large)(logits, box_masks)
        losses.append(loss)
        grads.append(torch.autograd.grad(loss, logits)[0])
    torch.testing.assert_close(losses[0], losses[1])
    assert grads[0].abs().sum() > 0
    assert grads[1].abs().sum() == 0
    small = ProjectionLoss(detach_large=True)(logits, box_masks[..., :480])
    assert torch.autograd.grad(small, logits)[0].abs().sum() > 0


def test_stays_float32_under_autocast():
    logits, box_masks = torch.randn(2, 3, 4, 5), random_boxes(2, 3, 16, 20)
    expected = ProjectionLoss()(logits.bfloat16().float(), box_masks)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = ProjectionLoss()(logits.bfloat16(), box_masks)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


def test_arguments_are_left_alone_and_checked():
    logits, box_masks = torch.randn(2, 3, 4, 5), random_boxes(2, 3, 16, 20)
    copies = logits.clone(), box_masks.clone()
    ProjectionLoss()(logits, box_masks)
    assert torch.equal(logits, copies[0]) and torch.equal(box_masks, copies[1])
    with pytest.raises(ValueError, match=r'\(2, 3\) and \(1, 3\)'):
        ProjectionLoss()(logits, box_masks[:1])


def test_is_registered():
    loss = MODELS.build(dict(type='ProjectionLoss', loss_weight=5.0))
    assert isinstance(loss, ProjectionLoss) and 'loss_weight=5.0' in repr(loss)
