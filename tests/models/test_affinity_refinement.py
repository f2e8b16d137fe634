from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmboxvis.models.task_modules import AffinityRefinement, PseudoMaskGenerator
from tests.models.test_boxvis import compute_loss
from tests.models.tiny import TWO_OBJECTS, criterion_cfg, make_boxvis, make_clip, make_sample


def plain(masks: Tensor, colors: Tensor, num_steps: int, dilation: int) -> Tensor:
    """One value at a time; ``colors`` at the size of the masks."""
    height, width = masks.shape[-2:]
    present = masks
    for _ in range(num_steps):
        after = masks.clone()
        for n in range(len(masks)):
            for t in range(masks.shape[1]):
                for y in range(height):
                    for x in range(width):
                        total, norm = float(masks[n, t, y, x]), 1.0
                        for dy in (-dilation, 0, dilation):
                            for dx in (-dilation, 0, dilation):
                                v, u = y + dy, x + dx
                                if (dy, dx) == (0, 0) or not (0 <= v < height and 0 <= u < width):
                                    continue
                                gap = colors[t, :, y, x] - colors[t, :, v, u]
                                weight = math.exp(-float(gap.norm()) / 2)
                                total += weight * float(present[n, t, v, u])
                                norm += weight
                        after[n, t, y, x] = total / norm
        present = after
    return present


def test_no_mask() -> None:
    masks = torch.zeros(0, 2, 4, 5)
    assert AffinityRefinement()(masks, torch.rand(2, 3, 16, 20)).shape == masks.shape


@pytest.mark.parametrize(('num_steps', 'dilation'), [(1, 1), (3, 1), (2, 2)])
def test_equals_the_plain_way(num_steps: int, dilation: int) -> None:
    torch.manual_seed(1)
    masks, lab = torch.rand(2, 2, 5, 6), 4 * torch.randn(2, 3, 5, 6)
    refined = AffinityRefinement(num_steps, dilation)(masks, lab)
    torch.testing.assert_close(refined, plain(masks, lab, num_steps, dilation))


def test_a_hole_is_filled_and_the_border_stays() -> None:
    lab = torch.zeros(1, 3, 48, 48)
    lab[:, 0, :, 24:] = 60
    masks = torch.zeros(1, 1, 12, 12)
    masks[..., :6] = 1
    masks[0, 0, 6, 3] = 0
    refined = AffinityRefinement(num_steps=5)(masks, lab)
    assert refined[0, 0, 6, 3] > 0.5
    assert refined[..., 6:].max() < 1e-6
    assert refined[..., :6].min() > 0.5


def test_black_frame_is_one_colour() -> None:
    masks = torch.full((1, 1, 4, 4), 0.25)
    torch.testing.assert_close(AffinityRefinement()(masks, torch.zeros(1, 3, 16, 16)), masks)


def test_pseudo_masks_are_refined_and_their_scores_stay() -> None:
    cls_logits, mask_logits = torch.randn(4, 3), 3 * torch.randn(4, 2, 8, 8)
    boxes = torch.ones(1, 2, 32, 32)
    arguments = (cls_logits, mask_logits, torch.tensor([1]), boxes)
    lab = torch.zeros(2, 3, 32, 32)
    taken = PseudoMaskGenerator()(*arguments)
    refined = PseudoMaskGenerator(refine=dict(type='AffinityRefinement'))(*arguments, lab)
    assert torch.equal(refined.scores, taken.scores)
    assert refined.masks.std() < 0.5 * taken.masks.std()
    with pytest.raises(ValueError, match='pass lab'):
        PseudoMaskGenerator(refine=dict(type='AffinityRefinement'))(*arguments)


def test_in_the_model_without_a_pairwise_loss() -> None:
    refine = dict(type='PseudoMaskGenerator', refine=dict(type='AffinityRefinement'))
    model = make_boxvis(pseudo_masks=refine, criterion=criterion_cfg(loss_pair=None))
    losses = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    assert all(torch.isfinite(value).all() for value in losses.values())


@pytest.mark.parametrize('options', [dict(num_steps=0), dict(dilation=0)])
def test_out_of_range(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match='positive'):
        AffinityRefinement(**options)
