from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmboxvis.models.task_modules import AffinityRefinement, PseudoMaskGenerator
from tests.models.test_boxvis import compute_loss
from tests.models.tiny import TWO_OBJECTS, criterion_cfg, make_boxvis, make_clip, make_sample


def plain(
    masks: Tensor,
    colors: Tensor,
    boxes: Tensor,
    *,
    num_steps: int,
    dilation: int,
    theta: float,
    own_weight: float,
) -> Tensor:
    """One value at a time; all at the size of the cells."""
    # up to the padding, which is black in every frame
    seen = [(y, x) for _, y, x in (colors[:, 0] > 0).nonzero().tolist()]
    height, width = (1 + max(place[axis] for place in seen) for axis in (0, 1))
    present = masks * boxes
    for _ in range(num_steps):
        after = torch.zeros_like(masks)
        for n, t, y, x in itertools.product(*map(range, masks.shape)):
            total, norm = own_weight * float(masks[n, t, y, x]), own_weight
            for dy, dx in itertools.product((-dilation, 0, dilation), repeat=2):
                v, u = y + dy, x + dx
                if (dy, dx) == (0, 0) or not (0 <= v < height and 0 <= u < width):
                    continue
                gap = colors[t, :, y, x] - colors[t, :, v, u]
                weight = math.exp(-float(gap.norm()) / theta)
                total += weight * float(present[n, t, v, u])
                norm += weight
            after[n, t, y, x] = boxes[n, t, y, x] * total / norm
        present = after
    return present


def test_no_mask() -> None:
    boxes = torch.zeros(0, 2, 15, 20)
    refined = AffinityRefinement()(torch.zeros(0, 2, 4, 5), torch.rand(2, 3, 15, 20), boxes)
    assert refined.shape == (0, 2, 8, 10)


@pytest.mark.parametrize('padding', [0, 2])
@pytest.mark.parametrize(('num_steps', 'dilation'), [(1, 1), (3, 1), (2, 2)])
def test_equals_the_plain_way(num_steps: int, dilation: int, padding: int) -> None:
    torch.manual_seed(1)
    logits, lab = 2 * torch.randn(2, 2, 5, 6), 4 * torch.randn(2, 3, 5, 6)
    lab[:, 0] += 20
    lab[..., 6 - padding :] = 0
    boxes = torch.zeros(2, 2, 5, 6)
    boxes[0, :, 1:4, :5] = 1
    boxes[1, 1] = 1
    options = dict(num_steps=num_steps, dilation=dilation, theta=3.0, own_weight=0.25)
    refined = AffinityRefinement(stride=1, min_share=0, **options)(logits, lab, boxes)
    torch.testing.assert_close(refined, plain(logits.sigmoid(), lab, boxes, **options))


def test_arguments_stay_as_they_are() -> None:
    torch.manual_seed(2)
    arguments = (torch.randn(1, 1, 4, 4), torch.randn(1, 3, 16, 16), torch.ones(1, 1, 16, 16))
    before = [value.clone() for value in arguments]
    AffinityRefinement()(*arguments)
    for value, copied in zip(arguments, before):
        assert torch.equal(value, copied)


def make_triangle() -> tuple[Tensor, Tensor, Tensor]:
    """Colours, box and true mask of a triangle that fills half of its box."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing='ij')
    box = ((y >= 16) & (y < 48) & (x >= 16) & (x < 48)).float()
    triangle = box * (x - 16 <= y - 16)
    lab = torch.stack([50 + 30 * triangle, 20 * triangle, 0 * triangle])
    return lab[None], box[None, None], triangle[None, None]


def test_background_flows_in_from_the_edge_of_the_box() -> None:
    """The corner beside a triangle leaves a mask that held the whole box, unsure as it was."""
    lab, box, triangle = make_triangle()
    logits = torch.full((1, 1, 16, 16), 1.0)
    refined = AffinityRefinement()(logits, lab, box)
    found = F.interpolate(refined, (64, 64), mode='bilinear')[0, 0] > 0.5
    true = triangle[0, 0] > 0.5
    assert (found & true).sum() / (found | true).sum() > 0.9
    assert triangle.sum() / box.sum() < 0.55


def test_a_mask_that_would_vanish_in_a_frame_stays_there() -> None:
    """In the first frame all is of one colour, in the second the object has its own."""
    lab, box, triangle = make_triangle()
    lab = torch.cat([torch.full_like(lab, 50.0), lab])
    logits = 4 * F.interpolate(triangle, (16, 16), mode='area').expand(-1, 2, -1, -1) - 2
    boxes = box.expand(-1, 2, -1, -1)
    own = F.interpolate(logits, (32, 32), mode='bilinear').sigmoid()
    own = own * F.interpolate(boxes, (32, 32), mode='area').ceil()
    emptied = AffinityRefinement(min_share=0)(logits, lab, boxes)
    assert (emptied[0, 0] > 0.5).sum() < 0.5 * (own[0, 0] > 0.5).sum()
    kept = AffinityRefinement()(logits, lab, boxes)
    torch.testing.assert_close(kept[0, 0], own[0, 0])
    assert torch.equal(kept[0, 1], emptied[0, 1])


def test_a_hole_is_filled_and_the_border_stays() -> None:
    lab = torch.zeros(1, 3, 48, 48)
    lab[:, 0, :, 24:] = 60
    logits = torch.full((1, 1, 12, 12), -9.0)
    logits[..., :6] = 9
    logits[0, 0, 6, 3] = -9
    refined = AffinityRefinement()(logits, lab, torch.ones(1, 1, 48, 48))
    assert refined[0, 0, 12, 6] > 0.5
    assert refined[..., :12].min() > 0.5
    assert refined[..., 13:].max() < 0.05


def test_a_strong_texture_keeps_the_mask() -> None:
    """Where every neighbour differs there is nothing to follow."""
    torch.manual_seed(3)
    lab = 200 * torch.rand(1, 3, 16, 16)
    logits = 4 * torch.randn(1, 1, 16, 16)
    refined = AffinityRefinement(stride=1)(logits, lab, torch.ones(1, 1, 16, 16))
    assert (refined - logits.sigmoid()).abs().median() < 1e-3


def test_a_black_clip_may_be_padding_and_keeps_its_masks() -> None:
    torch.manual_seed(4)
    logits = torch.randn(1, 1, 4, 4)
    refined = AffinityRefinement()(logits, torch.zeros(1, 3, 16, 16), torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(refined, F.interpolate(logits, (8, 8), mode='bilinear').sigmoid())


@pytest.mark.parametrize('lightness', [2.0, 5.0, 11.0])
def test_padding_is_no_background(lightness: float) -> None:
    """A dark object at the right edge is like it."""
    lab = torch.full((1, 3, 64, 64), 0.0)
    lab[:, 0] = 73
    lab[:, 0, 16:48, 40:] = lightness
    box = torch.zeros(1, 1, 64, 64)
    box[..., 16:48, 40:] = 1
    logits = torch.full((1, 1, 16, 16), -6.0)
    logits[..., 4:12, 10:] = 6
    alone = AffinityRefinement()(logits, lab, box)
    padded = AffinityRefinement()(
        F.pad(logits, (0, 8, 0, 8), mode='replicate'),
        F.pad(lab, (0, 32, 0, 32)),
        F.pad(box, (0, 32, 0, 32)),
    )
    torch.testing.assert_close(padded[..., :32, :32], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize('box', [(3, 3, 4, 4), (0, 0, 16, 1)])
def test_a_box_thinner_than_a_cell_keeps_its_mask(box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    boxes = torch.zeros(1, 1, 16, 16)
    boxes[..., top:bottom, left:right] = 1
    lab = 100 * torch.ones(1, 3, 16, 16) * boxes[0]
    refined = AffinityRefinement()(torch.full((1, 1, 4, 4), 9.0), lab, boxes)
    at_box = F.interpolate(refined, (16, 16), mode='bilinear')[boxes > 0]
    assert at_box.min() > 0.3


def test_pseudo_masks_are_refined_and_their_scores_stay() -> None:
    cls_logits, mask_logits = torch.randn(4, 3), 3 * torch.randn(4, 2, 8, 8)
    boxes = torch.ones(1, 2, 32, 32)
    arguments = (cls_logits, mask_logits, torch.tensor([1]), boxes)
    lab = torch.full((2, 3, 32, 32), 50.0)
    taken = PseudoMaskGenerator()(*arguments)
    refine = dict(type='AffinityRefinement', min_share=0)
    refined = PseudoMaskGenerator(refine=refine)(*arguments, lab)
    assert torch.equal(refined.scores, taken.scores)
    assert refined.masks.std() < 0.5 * taken.masks.std()
    with pytest.raises(ValueError, match='pass lab'):
        PseudoMaskGenerator(refine=dict(type='AffinityRefinement'))(*arguments)


def test_in_the_model_without_a_pairwise_loss() -> None:
    refine = dict(type='PseudoMaskGenerator', refine=dict(type='AffinityRefinement'))
    model = make_boxvis(pseudo_masks=refine, criterion=criterion_cfg(loss_pair=None))
    losses = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    assert all(torch.isfinite(value).all() for value in losses.values())


@pytest.mark.parametrize('name', ['num_steps', 'dilation', 'stride', 'theta', 'own_weight'])
def test_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        AffinityRefinement(**{name: 0})
    with pytest.raises(ValueError, match='min_share'):
        AffinityRefinement(min_share=1.5)
