from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from mmboxvis.models.task_modules import BoxSupervisedAssigner, MaskAssigner, hungarian
from mmboxvis.registry import TASK_UTILS
from mmboxvis.structures import ClipTargets, PseudoMasks, boxes_to_masks
from tests.reference import assigner as reference

NUM_CLASSES = 5


def make_targets(
    num: int, frames: int, size: tuple[int, int], *, masks: bool = False
) -> ClipTargets:
    height, width = size
    corner = torch.rand(num, frames, 2) * 0.6
    extent = 0.15 + torch.rand(num, frames, 2) * 0.25
    boxes = torch.cat([corner, corner + extent], -1)
    if num and frames > 1:
        boxes[0, 0] = 0
    box_masks = boxes_to_masks(boxes * torch.tensor([width, height, width, height]), size)
    return ClipTargets(
        labels=torch.randint(0, NUM_CLASSES, (num,)),
        boxes=boxes,
        box_masks=box_masks,
        instance_ids=torch.arange(num),
        masks=box_masks * (torch.rand(num, frames, height, width) > 0.4) if masks else None,
    )


def make_predictions(
    layers: int, queries: int, frames: int, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    shape = (layers, queries, frames, size[0] // 4, size[1] // 4)
    return torch.randn(layers, queries, NUM_CLASSES + 1), 2 * torch.randn(shape)


def make_pseudo(targets: ClipTargets) -> PseudoMasks:
    num = len(targets)
    masks = targets.box_masks * torch.rand_like(targets.box_masks)
    return PseudoMasks(torch.arange(num), torch.rand(num), masks)


@pytest.mark.parametrize('queries', [0, 3])
@pytest.mark.parametrize('assigner', [BoxSupervisedAssigner(), MaskAssigner()])
def test_no_instance(assigner: BoxSupervisedAssigner | MaskAssigner, queries: int) -> None:
    targets = make_targets(0, 2, (16, 24), masks=True)
    cls_logits, mask_logits = make_predictions(4, queries, 2, (16, 24))
    assert assigner.costs(cls_logits, mask_logits, targets).shape == (4, queries, 0)
    matches = assigner.assign(cls_logits, mask_logits, targets, make_pseudo(targets), 0.5)
    assert len(matches) == 4
    for query_inds, gt_inds in matches:
        assert query_inds.shape == gt_inds.shape == (0,)
        assert query_inds.dtype == gt_inds.dtype == torch.int64


def test_no_box_for_the_teacher() -> None:
    cls_logits, mask_logits = make_predictions(1, 3, 2, (16, 24))
    targets = make_targets(0, 2, (16, 24))
    ((query_inds, gt_inds),) = BoxSupervisedAssigner().assign_boxes(
        cls_logits, mask_logits, targets.labels, targets.box_masks
    )
    assert len(query_inds) == len(gt_inds) == 0


def test_the_query_that_fits_is_found() -> None:
    targets = make_targets(1, 1, (32, 32))
    cls_logits, mask_logits = make_predictions(2, 6, 1, (32, 32))
    for layer, query in enumerate((4, 1)):
        cls_logits[layer, query, targets.labels[0]] = 9
        mask_logits[layer, query] = 20 * targets.box_masks[0, :, 2::4, 2::4] - 10
    matches = BoxSupervisedAssigner().assign(cls_logits, mask_logits, targets)
    assert [(q.tolist(), n.tolist()) for q, n in matches] == [([4], [0]), ([1], [0])]


def test_more_instances_than_queries() -> None:
    targets = make_targets(5, 2, (24, 32), masks=True)
    cls_logits, mask_logits = make_predictions(3, 2, 2, (24, 32))
    for assigner in (BoxSupervisedAssigner(num_points=20), MaskAssigner(num_points=20)):
        matches = assigner.assign(cls_logits, mask_logits, targets, make_pseudo(targets), 0.5)
        for query_inds, gt_inds in matches:
            assert sorted(query_inds.tolist()) == [0, 1]
            assert len(gt_inds) == 2
            assert gt_inds[0] < gt_inds[1]


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.tuples(st.sampled_from([8, 12, 16]), st.sampled_from([8, 20])),
    st.floats(0, 1),
    st.integers(0, 2**16),
)
def test_costs_equal_the_loops(
    queries: int, num: int, frames: int, size: tuple[int, int], threshold: float, seed: int
) -> None:
    torch.manual_seed(seed)
    targets = make_targets(num, frames, size, masks=True)
    assert targets.masks is not None
    pseudo = make_pseudo(targets)
    cls_logits, mask_logits = make_predictions(2, queries, frames, size)
    points = torch.rand(4, 2)
    teacher = BoxSupervisedAssigner().costs(cls_logits, mask_logits, targets)
    student = BoxSupervisedAssigner().costs(
        cls_logits, mask_logits, targets, pseudo, threshold, points=points
    )
    pixels = MaskAssigner().costs(cls_logits, mask_logits, targets, points=points)
    for layer in range(2):
        both = cls_logits[layer], mask_logits[layer], targets.labels
        expected = reference.box_supervised_costs(*both, targets.box_masks)
        assert_close(teacher[layer], expected, atol=1e-4, rtol=1e-4)
        expected = reference.box_supervised_costs(
            *both, targets.box_masks, pseudo.masks, pseudo.scores, threshold, points
        )
        assert_close(student[layer], expected, atol=1e-4, rtol=1e-4)
        expected = reference.mask_costs(*both, targets.masks, points)
        assert_close(pixels[layer], expected, atol=1e-4, rtol=1e-4)


def _changed_columns(
    assigner: BoxSupervisedAssigner, pseudo: PseudoMasks, threshold: float
) -> list:
    """Which of two instances, one large and one small, are matched by their pseudo masks."""
    boxes = torch.tensor([[[0.0, 0.0, 40.0, 40.0]], [[0.0, 0.0, 16.0, 20.0]]])
    targets = ClipTargets(
        labels=torch.zeros(2, dtype=torch.long),
        boxes=boxes / 80,
        box_masks=boxes_to_masks(boxes, (80, 80)),
        instance_ids=torch.arange(2),
    )
    cls_logits, mask_logits = make_predictions(1, 3, 1, (80, 80))
    points = torch.rand(10, 2)
    plain = assigner.costs(cls_logits, mask_logits, targets)
    full = assigner.costs(cls_logits, mask_logits, targets, pseudo, threshold, points=points)
    return (plain != full)[0].all(0).tolist()


def test_only_trusted_pseudo_masks_count() -> None:
    def pseudo(*scores: float, queries: tuple[int, int] = (0, 1)) -> PseudoMasks:
        return PseudoMasks(torch.tensor(queries), torch.tensor(scores), torch.rand(2, 1, 80, 80))

    # the second box covers exactly 5 % of the clip: small
    default = BoxSupervisedAssigner()
    assert _changed_columns(default, pseudo(0.7, 0.9), 0.6) == [True, False]
    assert _changed_columns(default, pseudo(0.5, 0.9), 0.6) == [False, False]
    # the cap
    assert _changed_columns(default, pseudo(0.82, 0.9), 0.88) == [True, False]
    uncapped = BoxSupervisedAssigner(max_confidence=1.0, small_area=0.0)
    assert _changed_columns(uncapped, pseudo(0.82, 0.9), 0.88) == [False, True]
    # an instance without a query has no pseudo mask, whatever is asked
    assert _changed_columns(default, pseudo(0.0, 0.0, queries=(-1, -1)), 0.0) == [False, False]


def test_mask_quality_can_be_left_out() -> None:
    targets = make_targets(2, 1, (16, 16))
    cls_logits, mask_logits = make_predictions(1, 3, 1, (16, 16))
    weights = dict(projection_weight=0.0, cls_weight=1.0)
    plain = BoxSupervisedAssigner(**weights, use_mask_quality=False)
    assert_close(
        plain.costs(cls_logits, mask_logits, targets)[0],
        -cls_logits[0].softmax(-1)[:, targets.labels],
    )
    scaled = BoxSupervisedAssigner(**weights).costs(cls_logits, mask_logits, targets)
    assert (scaled > plain.costs(cls_logits, mask_logits, targets)).all()


def test_points_come_from_the_global_generator() -> None:
    targets = make_targets(2, 2, (16, 16), masks=True)
    inputs = (*make_predictions(1, 3, 2, (16, 16)), targets)
    assigner = MaskAssigner(num_points=7)
    torch.manual_seed(3)
    drawn = assigner.costs(*inputs)
    torch.manual_seed(3)
    assert_close(drawn, assigner.costs(*inputs, points=torch.rand(7, 2)))


def test_inputs_stay_as_they_were_and_costs_have_no_gradient() -> None:
    targets = make_targets(2, 2, (16, 24))
    pseudo = make_pseudo(targets)
    cls_logits, mask_logits = make_predictions(2, 4, 2, (16, 24))
    before = [x.clone() for x in (cls_logits, mask_logits, targets.box_masks, pseudo.masks)]
    costs = BoxSupervisedAssigner(num_points=5).costs(
        cls_logits.requires_grad_(), mask_logits.requires_grad_(), targets, pseudo, 0.5
    )
    assert not costs.requires_grad
    for old, new in zip(before, (cls_logits, mask_logits, targets.box_masks, pseudo.masks)):
        assert torch.equal(old, new)


def test_autocast_does_not_reach_the_costs() -> None:
    targets = make_targets(2, 2, (16, 24))
    pseudo = make_pseudo(targets)
    points = torch.rand(9, 2)
    half = [x.bfloat16() for x in make_predictions(2, 4, 2, (16, 24))]
    assigner = BoxSupervisedAssigner()
    with torch.autocast('cpu', torch.bfloat16):
        costs = assigner.costs(*half, targets, pseudo, 0.3, points=points)
    assert costs.dtype == torch.float32
    whole = [x.float() for x in half]
    assert_close(costs, assigner.costs(*whole, targets, pseudo, 0.3, points=points))


def test_teacher_entry_point_equals_matching_without_pseudo_masks() -> None:
    targets = make_targets(3, 2, (24, 32))
    predictions = make_predictions(3, 6, 2, (24, 32))
    assigner = BoxSupervisedAssigner()
    expected = assigner.assign(*predictions, targets)
    actual = assigner.assign_boxes(*predictions, targets.labels, targets.box_masks)
    assert_close(actual, expected)


def test_wrong_input_is_named() -> None:
    targets = make_targets(2, 3, (16, 16))
    predictions = make_predictions(1, 3, 2, (16, 16))
    with pytest.raises(ValueError, match='2 frames, the targets 3'):
        BoxSupervisedAssigner().assign(*predictions, targets)
    with pytest.raises(ValueError, match='2 frames, the targets 3'):
        BoxSupervisedAssigner().assign_boxes(*predictions, targets.labels, targets.box_masks)
    with pytest.raises(ValueError, match='with_mask=True'):
        MaskAssigner().assign(*make_predictions(1, 3, 3, (16, 16)), targets)
    with pytest.raises(ValueError, match='num_points'):
        MaskAssigner(num_points=0)


def test_built_from_configs() -> None:
    box = TASK_UTILS.build(dict(type='BoxSupervisedAssigner', num_points=50))
    assert isinstance(box, BoxSupervisedAssigner)
    assert isinstance(TASK_UTILS.build(dict(type='MaskAssigner')), MaskAssigner)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2), st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**16))
def test_hungarian_is_the_cheapest(layers: int, queries: int, num: int, seed: int) -> None:
    torch.manual_seed(seed)
    costs = torch.randn(layers, queries, num)
    matches = hungarian(costs)
    assert len(matches) == layers
    for layer, (query_inds, gt_inds) in enumerate(matches):
        assert len(query_inds) == len(gt_inds) == min(queries, num)
        assert gt_inds.tolist() == sorted(set(gt_inds.tolist()))
        assert len(set(query_inds.tolist())) == len(query_inds)
        total = costs[layer, query_inds, gt_inds].sum().item()
        assert total == pytest.approx(reference.cheapest_assignment(costs[layer]), abs=1e-5)


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), float('-inf')])
def test_costs_that_are_not_finite_are_matched_last(bad: float) -> None:
    costs = torch.tensor([[[bad, 1e4], [-1e4, bad], [3e4, 2e4]]])
    with pytest.warns(RuntimeWarning, match='2 of 6 matching costs'):
        ((query_inds, gt_inds),) = hungarian(costs)
    assert query_inds.tolist() == [1, 0]
    assert gt_inds.tolist() == [0, 1]
    # however much worse the other pairs are together
    costs = torch.tensor([[[bad, 10.0], [10.0, -10.0]]])
    with pytest.warns(RuntimeWarning, match='1 of 4 matching costs'):
        ((query_inds, gt_inds),) = hungarian(costs)
    assert query_inds.tolist() == [1, 0]


def test_nothing_finite_still_matches() -> None:
    with pytest.warns(RuntimeWarning, match='4 of 4'):
        ((query_inds, gt_inds),) = hungarian(torch.full((1, 2, 2), float('nan')))
    assert sorted(query_inds.tolist()) == gt_inds.tolist() == [0, 1]


def test_overflown_predictions_do_not_spoil_other_queries() -> None:
    targets = make_targets(2, 2, (16, 24))
    cls_logits, mask_logits = make_predictions(1, 4, 2, (16, 24))
    mask_logits[0, 1] = float('nan')
    pseudo = dataclasses.replace(make_pseudo(targets), scores=torch.ones(2))
    with pytest.warns(RuntimeWarning, match='not finite'):
        matches = BoxSupervisedAssigner(num_points=8, small_area=0.0).assign(
            cls_logits, mask_logits, targets, pseudo, 0.5
        )
    assert 1 not in matches[0][0].tolist()
