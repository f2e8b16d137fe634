from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmboxvis.models.task_modules import ColorModelRefinement, PseudoMaskGenerator
from mmboxvis.models.task_modules.color_model_refinement import enlarge_boxes
from mmboxvis.models.task_modules.refinement import refine_masks
from tests.models.test_boxvis import compute_loss
from tests.models.tiny import TWO_OBJECTS, criterion_cfg, make_boxvis, make_clip, make_sample

Bin = tuple[int, int, int]


def plain(
    logits: Tensor, colors: Tensor, boxes: Tensor, around: Tensor, *, rounds: int, weight: float
) -> Tensor:
    """One cell at a time, with dictionaries for histograms; all at the size of the cells."""

    def bin_of(t: int, y: int, x: int) -> Bin:
        lab = colors[t, :, y, x].tolist()
        return tuple(int((v - low) // 5) for v, low in zip(lab, (0, -87, -108)))  # type: ignore

    def density(weights: dict[Bin, float]) -> dict[Bin, float]:
        spread: dict[Bin, float] = defaultdict(float)
        for place, value in weights.items():
            for step in itertools.product((-1, 0, 1), repeat=3):
                spread[tuple(a + b for a, b in zip(place, step))] += value / 27  # type: ignore
        total = max(sum(spread.values()), 1)
        return defaultdict(float, {place: value / total for place, value in spread.items()})

    cells = list(itertools.product(*map(range, colors[:, 0].shape)))
    masks = logits.sigmoid() * boxes
    for _ in range(rounds):
        after = torch.zeros_like(masks)
        for n in range(len(masks)):
            seen: tuple[dict[Bin, float], dict[Bin, float]] = (
                defaultdict(float),
                defaultdict(float),
            )
            for t, y, x in cells:
                value = float(masks[n, t, y, x])
                seen[0][bin_of(t, y, x)] += value
                seen[1][bin_of(t, y, x)] += float(around[n, t, y, x]) * (1 - value)
            inside, outside = map(density, seen)
            known = min(sum(weights.values()) for weights in seen) >= 1
            for t, y, x in cells:
                place = bin_of(t, y, x)
                ratio = math.log((inside[place] + 1e-6) / (outside[place] + 1e-6))
                moved = float(logits[n, t, y, x]) + known * weight * min(max(ratio, -3), 3)
                after[n, t, y, x] = boxes[n, t, y, x] / (1 + math.exp(-moved))
        masks = after
    return masks


def test_no_mask() -> None:
    boxes = torch.zeros(0, 2, 15, 20)
    refined = ColorModelRefinement()(torch.zeros(0, 2, 4, 5), torch.rand(2, 3, 15, 20), boxes)
    assert refined.shape == (0, 2, 8, 10)


@pytest.mark.parametrize('rounds', [1, 3])
def test_equals_the_plain_way(rounds: int) -> None:
    torch.manual_seed(1)
    logits = 2 * torch.randn(3, 2, 6, 7)
    logits[2] = -2
    lab = torch.tensor([50.0, 10, -20]).view(1, 3, 1, 1) + 8 * torch.randn(2, 3, 6, 7)
    boxes = torch.zeros(3, 2, 6, 7)
    boxes[0, :, 1:4, :5] = 1
    boxes[1, 1, 3:, 2:4] = 1
    boxes[2, 0, 2:4, 5:] = 1
    around = enlarge_boxes(boxes, 0.5)
    refined = ColorModelRefinement(rounds, weight=1.5, stride=1)(logits, lab, boxes)
    expected = plain(logits, lab, boxes, around, rounds=rounds, weight=1.5)
    torch.testing.assert_close(refined, expected, rtol=1e-4, atol=1e-5)
    # a mask of half a cell in all has no colours of its own
    torch.testing.assert_close(refined[2], logits[2].sigmoid() * boxes[2])


def test_arguments_stay_as_they_are() -> None:
    torch.manual_seed(2)
    arguments = (torch.randn(1, 1, 4, 4), 50 * torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16))
    before = [value.clone() for value in arguments]
    ColorModelRefinement()(*arguments)
    for value, copied in zip(arguments, before):
        assert torch.equal(value, copied)


def make_textured() -> tuple[Tensor, Tensor, Tensor]:
    """Colours, box and true mask of a disc with dark blobs on a background of another colour."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    box = ((y >= 16) & (y < 48) & (x >= 16) & (x < 48)).float()
    disc = ((y - 31.5) ** 2 + (x - 31.5) ** 2 < 16**2).float()
    blobs = disc * ((x // 4 + y // 4) % 3 == 0)
    lab = torch.stack([60 + 10 * disc - 50 * blobs, 40 * disc, 5 * disc])
    return lab[None], box[None, None], disc[None, None]


def iou(found: Tensor, true: Tensor) -> float:
    return float((found & true).sum() / (found | true).sum())


def test_blobs_of_another_colour_are_filled_and_the_corners_emptied() -> None:
    """The mask held the middle of the object without its blobs, and a corner of its box."""
    lab, box, disc = make_textured()
    texture = lab[:, :1] > 30
    inner = F.avg_pool2d(disc, 13, 1, 6) > 0.9
    rough = (inner & texture).float()
    rough[..., 16:24, 16:24] = 1
    logits = F.interpolate(4 * rough - 2, (16, 16), mode='area')
    refined = ColorModelRefinement()(logits, lab, box)
    found = F.interpolate(refined, (64, 64), mode='bilinear') > 0.5
    before = F.interpolate(logits, (64, 64), mode='bilinear') > 0
    assert iou(found, disc > 0.5) > 0.9
    assert iou(before, disc > 0.5) < 0.6
    assert refined[..., :7, :].max() == 0  # outside of the box


def test_a_mask_of_the_colours_around_it_stays() -> None:
    torch.manual_seed(3)
    lab = torch.full((2, 3, 48, 48), 20.0)
    logits = 3 * torch.randn(1, 2, 12, 12)
    boxes = torch.zeros(1, 2, 48, 48)
    boxes[..., 8:40, 8:40] = 1
    refined = ColorModelRefinement()(logits, lab, boxes)
    own = F.interpolate(logits, (24, 24), mode='bilinear').sigmoid()
    torch.testing.assert_close(refined, own * F.adaptive_max_pool2d(boxes, 24))


def test_padding_is_not_around_an_object() -> None:
    """A dark object at the edge would be like it."""
    torch.manual_seed(5)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    disc = ((y - 52) ** 2 + (x - 52) ** 2 < 10**2).float()
    lab = torch.stack([60 - 55 * disc + torch.rand(64, 64), 20 * (1 - disc), 0 * disc])[None]
    box = torch.zeros(1, 1, 64, 64)
    box[..., 42:, 42:62] = 1
    logits = F.interpolate(2 * disc[None, None] - 1.5, (16, 16), mode='area')
    alone = ColorModelRefinement()(logits, lab, box)
    padded = ColorModelRefinement()(
        F.pad(logits, (0, 8, 0, 8), value=-1.5),
        F.pad(lab, (0, 32, 0, 32)),
        F.pad(box, (0, 32, 0, 32)),
    )
    found, expected = padded[..., :32, :32] > 0.5, alone > 0.5
    assert expected.sum() > 60
    assert iou(found, expected) > 0.95


def test_an_object_missing_in_a_frame_and_one_never_seen() -> None:
    lab, box, _ = make_textured()
    lab, boxes = lab.repeat(2, 1, 1, 1), torch.cat([box, 0 * box], 1)
    boxes = torch.cat([boxes, 0 * boxes])
    logits = torch.full((2, 2, 16, 16), 1.0)
    refined = ColorModelRefinement()(logits, lab, boxes)
    assert refined[0, 0].max() > 0.5
    assert not refined[0, 1].any() and not refined[1].any()


def test_black_frame_is_one_colour() -> None:
    logits = torch.full((1, 1, 4, 4), -1.0)
    refined = ColorModelRefinement()(logits, torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(refined, torch.full((1, 1, 8, 8), -1.0).sigmoid())


@settings(deadline=None, max_examples=50)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)), st.floats(0.1, 2), st.data()
)  # fmt: skip
def test_boxes_grow_on_each_side(size: tuple[int, int], margin: float, data: st.DataObject) -> None:
    height, width = size
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top, height)), data.draw(st.integers(left, width))
    box = torch.zeros(height, width)
    box[top:bottom, left:right] = 1
    grown = enlarge_boxes(box, margin)
    for y, x in itertools.product(range(height), range(width)):
        inside = (
            bottom > top
            and right > left
            and top - margin * (bottom - top) <= y <= bottom - 1 + margin * (bottom - top)
            and left - margin * (right - left) <= x <= right - 1 + margin * (right - left)
        )
        assert bool(grown[y, x]) == inside


class TestInTheGenerator:
    def test_refinements_follow_each_other(self) -> None:
        torch.manual_seed(4)
        lab, box, _ = make_textured()
        cls_logits, mask_logits = torch.randn(4, 3), 3 * torch.randn(4, 1, 16, 16)
        steps = [dict(type='ColorModelRefinement'), dict(type='AffinityRefinement', theta=5.0)]
        generator = PseudoMaskGenerator(refine=steps)
        pseudo = generator(cls_logits, mask_logits, torch.tensor([1]), box, lab)
        query = mask_logits[pseudo.query_inds]
        colors, neighbors = generator.refinements
        by_hand = neighbors(colors(query, lab, box).logit(eps=1e-6), lab, box)
        torch.testing.assert_close(refine_masks([colors, neighbors], query, lab, box), by_hand)
        enlarged = F.interpolate(by_hand, (64, 64), mode='bilinear') * box
        torch.testing.assert_close(pseudo.masks, enlarged)

    def test_no_refinement(self) -> None:
        assert PseudoMaskGenerator(refine=[]).refinements == []
        with pytest.raises(ValueError, match='nothing to refine'):
            refine_masks([], *(torch.zeros(1, 1, 4, 4),) * 3)

    def test_in_the_model_without_a_pairwise_loss(self) -> None:
        refine = [dict(type='ColorModelRefinement'), dict(type='AffinityRefinement')]
        model = make_boxvis(
            pseudo_masks=dict(type='PseudoMaskGenerator', refine=refine),
            criterion=criterion_cfg(loss_pair=None),
        )
        losses = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
        assert all(torch.isfinite(value).all() for value in losses.values())


@pytest.mark.parametrize(
    'name', ['num_rounds', 'weight', 'bin_size', 'margin', 'max_log_ratio', 'stride']
)
def test_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        ColorModelRefinement(**{name: 0})
