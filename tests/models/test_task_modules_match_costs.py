from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from mmboxvis.models.losses.functional import mask_projections
from mmboxvis.models.task_modules import (
    classification_cost,
    point_bce_cost,
    point_dice_cost,
    projection_cost,
    query_quality,
)
from tests.reference import assigner as reference

SIZES = st.integers(1, 4)


def test_no_instance_gives_no_column() -> None:
    masks = torch.randn(3, 2, 4, 5)
    no_labels = torch.zeros(0, dtype=torch.long)
    assert classification_cost(torch.randn(3, 6), no_labels).shape == (3, 0)
    assert projection_cost(masks, mask_projections(torch.zeros(0, 2, 4, 5))).shape == (3, 0)
    assert point_bce_cost(torch.randn(3, 7), torch.zeros(0, 7)).shape == (3, 0)
    assert point_dice_cost(torch.randn(3, 7), torch.zeros(0, 7)).shape == (3, 0)


def test_quality_of_an_empty_mask_is_zero() -> None:
    assert query_quality(torch.full((1, 2, 3, 3), -4.0)).item() == 0


def test_a_perfect_match_costs_nothing() -> None:
    box = torch.zeros(1, 2, 6, 8)
    box[0, :, 1:4, 2:6] = 1
    logits = (box - 0.5) * 200
    assert_close(projection_cost(logits, mask_projections(box)), torch.zeros(1, 1))
    flat = box.flatten(1)
    assert_close(point_bce_cost(logits.flatten(1), flat), torch.zeros(1, 1))
    assert_close(point_dice_cost(logits.flatten(1), flat), torch.zeros(1, 1))


def test_projection_floor_holds_for_empty_masks() -> None:
    cost = projection_cost(
        torch.full((1, 1, 4, 4), -80.0), mask_projections(torch.zeros(1, 1, 4, 4))
    )
    assert_close(cost, torch.full((1, 1), 2.0))


def test_bce_cost_survives_huge_logits() -> None:
    cost = point_bce_cost(torch.tensor([[1e4, -1e4]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert_close(cost, torch.tensor([[0.0, 1e4]]))


@settings(deadline=None, max_examples=30)
@given(SIZES, SIZES, SIZES, SIZES, SIZES, st.integers(0, 2**16))
def test_costs_equal_their_loops(q: int, n: int, t: int, h: int, w: int, seed: int) -> None:
    torch.manual_seed(seed)
    cls_logits, masks = torch.randn(q, 4), 3 * torch.randn(q, t, h, w)
    labels, boxes = torch.randint(0, 3, (n,)), (torch.rand(n, t, h, w) > 0.6).float()
    logits, values = masks.flatten(1), torch.rand(n, t * h * w)
    by_class = classification_cost(cls_logits, labels, query_quality(masks))
    by_boxes = projection_cost(masks, mask_projections(boxes))
    bce, dice = point_bce_cost(logits, values), point_dice_cost(logits, values)
    for i in range(q):
        quality = reference.mask_quality(masks[i])
        for j in range(n):
            expected = reference.class_cost(cls_logits[i], int(labels[j]), quality)
            assert by_class[i, j].item() == pytest.approx(expected, abs=1e-5)
            expected = reference.projection_cost(masks[i], boxes[j])
            assert by_boxes[i, j].item() == pytest.approx(expected, abs=1e-5)
            probs = logits[i].sigmoid()
            entropy = torch.nn.functional.binary_cross_entropy(
                logits[i].double().sigmoid(), values[j].double()
            ).item()
            assert bce[i, j].item() == pytest.approx(entropy, abs=1e-4)
            shared = sum((probs * values[j]).tolist())
            total = sum((probs + values[j]).tolist())
            assert dice[i, j].item() == pytest.approx(1 - (2 * shared + 1) / (total + 1), abs=1e-5)
