from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from mmboxvis.models.task_modules import BoxSupervisedAssigner, PseudoMaskGenerator
from mmboxvis.registry import TASK_UTILS
from tests.reference.pseudo_masks import pseudo_masks


def make_inputs(
    queries: int, num: int, frames: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    height, width = size
    boxes = torch.zeros(num, frames, height, width)
    for n in range(num):
        y, x = 4 * (n % 2), 4 * (n % 3)
        boxes[n, :, y : y + 6, x : x + 7] = 1
    if num and frames > 1:
        boxes[0, 0] = 0
    masks = 3 * torch.randn(queries, frames, height // 4, width // 4)
    return torch.randn(queries, 5), masks, torch.randint(0, 4, (num,)), boxes


def test_no_instance() -> None:
    pseudo = PseudoMaskGenerator()(*make_inputs(3, 0, 2, (16, 24)))
    assert pseudo.query_inds.shape == pseudo.scores.shape == (0,)
    assert pseudo.query_inds.dtype == torch.int64
    assert pseudo.masks.shape == (0, 2, 16, 24)


def test_no_query() -> None:
    pseudo = PseudoMaskGenerator()(*make_inputs(0, 2, 1, (16, 24)))
    assert pseudo.query_inds.tolist() == [-1, -1]
    assert not pseudo.scores.any()
    assert not pseudo.masks.any()


def test_instance_without_any_box_has_an_empty_mask() -> None:
    inputs = make_inputs(3, 1, 1, (16, 16))
    pseudo = PseudoMaskGenerator()(*inputs[:3], torch.zeros(1, 1, 16, 16))
    assert not pseudo.masks.any()
    assert pseudo.scores.tolist() == [0]


def test_a_perfect_teacher_scores_one() -> None:
    *_, labels, boxes = make_inputs(2, 1, 2, (16, 16))
    masks = torch.full((2, 2, 16, 16), -50.0)
    masks[1] = 100 * boxes[0] - 50
    cls_logits = torch.zeros(2, 5)
    cls_logits[1, labels[0]] = 50
    pseudo = PseudoMaskGenerator()(cls_logits, masks, labels, boxes)
    assert pseudo.query_inds.tolist() == [1]
    assert_close(pseudo.scores, torch.ones(1))
    assert_close(pseudo.masks, boxes)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 2),
    st.tuples(st.sampled_from([12, 16]), st.sampled_from([16, 20])),
    st.integers(0, 2**16),
)
def test_equals_the_loops(
    queries: int, num: int, frames: int, size: tuple[int, int], seed: int
) -> None:
    torch.manual_seed(seed)
    inputs = make_inputs(queries, num, frames, size)
    pseudo = PseudoMaskGenerator()(*inputs)
    query_inds, scores, masks = pseudo_masks(*inputs)
    assert pseudo.query_inds.tolist() == query_inds
    assert pseudo.scores.tolist() == pytest.approx(scores, abs=1e-5)
    assert_close(pseudo.masks, masks, atol=1e-5, rtol=1e-5)
    assert (pseudo.query_inds < 0).sum() == max(num - queries, 0)


def test_released_numbers(golden: Path) -> None:
    data = np.load(golden / 'teacher_pseudo_masks.npz')
    names = ('cls_logits', 'mask_logits', 'labels', 'box_masks')
    pseudo = PseudoMaskGenerator()(*(torch.from_numpy(data[name]) for name in names))
    assert pseudo.query_inds.tolist() == data['query_of_gt'].tolist()
    assert_close(pseudo.scores, torch.from_numpy(data['scores']), atol=1e-5, rtol=0)
    assert_close(pseudo.masks, torch.from_numpy(data['pseudo_masks']), atol=1e-5, rtol=0)


def test_half_precision_predictions_give_float32() -> None:
    cls_logits, masks, labels, boxes = make_inputs(4, 3, 2, (16, 20))
    cls_logits, masks = cls_logits.bfloat16(), masks.bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        pseudo = PseudoMaskGenerator()(cls_logits, masks, labels, boxes)
    expected = PseudoMaskGenerator()(cls_logits.float(), masks.float(), labels, boxes)
    assert_close(pseudo.scores, expected.scores)
    assert_close(pseudo.masks, expected.masks)


def test_no_gradient_and_no_edit() -> None:
    cls_logits, masks, labels, boxes = make_inputs(4, 3, 2, (16, 20))
    before = boxes.clone()
    pseudo = PseudoMaskGenerator()(
        cls_logits.requires_grad_(), masks.requires_grad_(), labels, boxes
    )
    assert not pseudo.masks.requires_grad
    assert not pseudo.scores.requires_grad
    assert torch.equal(before, boxes)


def test_assigner_from_config_or_object() -> None:
    assigner = BoxSupervisedAssigner(use_mask_quality=False)
    assert PseudoMaskGenerator(assigner).assigner is assigner
    cfg = dict(type='BoxSupervisedAssigner', use_mask_quality=False)
    built = TASK_UTILS.build(dict(type='PseudoMaskGenerator', assigner=cfg))
    assert isinstance(built.assigner, BoxSupervisedAssigner)
    assert not built.assigner.use_mask_quality


def test_wrong_number_of_frames_is_named() -> None:
    cls_logits, masks, labels, boxes = make_inputs(3, 2, 2, (16, 16))
    with pytest.raises(ValueError, match='2 frames, the targets 1'):
        PseudoMaskGenerator()(cls_logits, masks, labels, boxes[:, :1])
