"""Temporal pairs by matching patches, against the plain twin."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmboxvis.models.losses import STPALoss, TemporalMatchLoss
from mmboxvis.models.losses.functional import resize_to_nodes
from tests.models import test_losses_stpa
from tests.reference.temporal_match import temporal_matches


def make_clip(**options):
    """As for STPA, but as light as frames are: what is black is taken for padding."""
    lab, *others = test_losses_stpa.make_clip(**options)
    return lab + torch.tensor([50.0, 0, 0]).view(3, 1, 1), *others


def listed(pairs, spatial=2):
    """Temporal pairs as (n, t, y, x, y', x')."""
    frames = pairs.shape[1]
    kept = set()
    ahead = pairs.neighbor_inds >= spatial
    for a, b in zip(pairs.nodes[pairs.first[ahead]], pairs.nodes[pairs.second[ahead]]):
        (n, t, y, x), (m, t2, y2, x2) = (
            tuple(int(i) for i in torch.unravel_index(node, pairs.shape)) for node in (a, b)
        )
        assert m == n
        assert t2 == (t + 1) % frames
        kept.add((n, t, y, x, y2, x2))
    assert len(kept) == int(ahead.sum()), 'a pair is listed twice'
    return kept


def test_no_instance():
    lab, _, boxes, box_masks, logits = make_clip()
    loss = TemporalMatchLoss()
    pairs = loss.build_pairs(lab, None, boxes[:0], box_masks[:0])
    assert pairs.num_pairs == 0
    logits = logits[:0].requires_grad_()
    loss(logits, pairs).backward()
    assert logits.grad is not None


def test_one_frame_has_spatial_pairs_only():
    lab, _, boxes, box_masks, _ = make_clip(frames=1, absent=0)
    pairs = TemporalMatchLoss().build_pairs(lab, None, boxes, box_masks)
    assert pairs.num_pairs > 0
    assert int(pairs.neighbor_inds.max()) < 2


def test_object_missing_in_a_frame_has_no_pair_into_it():
    lab, _, boxes, box_masks, _ = make_clip(count=1, absent=0)
    box_masks = box_masks.clone()
    box_masks[:, 1] = 0
    pairs = TemporalMatchLoss(match_thr=0).build_pairs(lab, None, boxes, box_masks)
    assert {t for _, t, *_ in listed(pairs)} == {2}


def test_frames_of_one_colour_match_in_place_or_near():
    lab, _, boxes, box_masks, _ = make_clip(count=1, absent=0)
    loss = TemporalMatchLoss(num_matches=1, radius=2)
    pairs = listed(loss.build_pairs(torch.full_like(lab, 50), None, boxes, box_masks))
    assert all(abs(y - y2) <= 2 and abs(x - x2) <= 2 for _, _, y, x, y2, x2 in pairs)
    assert pairs


def test_a_black_clip_may_be_padding_and_has_no_matches():
    lab, _, boxes, box_masks, _ = make_clip(count=1, absent=0)
    loss = TemporalMatchLoss(match_thr=0, temporal_in_box='any')
    assert not listed(loss.build_pairs(torch.zeros_like(lab), None, boxes, box_masks))


@pytest.mark.parametrize('in_box', ['both', 'any'])
@pytest.mark.parametrize('threshold', [0.3, 0])
def test_padding_changes_no_match(threshold, in_box):
    torch.manual_seed(0)
    lab, _, boxes, box_masks, _ = make_clip(absent=0)
    lab = lab + torch.randn(lab.shape)
    loss = TemporalMatchLoss(radius=2, match_thr=threshold, temporal_in_box=in_box)
    expected = listed(loss.build_pairs(lab, None, boxes, box_masks))
    lab, box_masks = (F.pad(maps, (0, 32, 0, 16)) for maps in (lab, box_masks))
    padded = loss.build_pairs(lab, None, boxes * torch.tensor([2 / 3, 3 / 4] * 2), box_masks)
    assert listed(padded) == expected
    assert expected


@pytest.mark.parametrize('in_box', ['both', 'any'])
@pytest.mark.parametrize('padding', [0, 12])
@pytest.mark.parametrize(
    ('radius', 'num_matches', 'threshold'), [(0, 1, 0.3), (2, 3, 0.2), (1, 9, 0)]
)
def test_matches_are_those_of_the_plain_way(radius, num_matches, threshold, in_box, padding):
    lab, _, boxes, box_masks, _ = make_clip(height=24, width=24, seed=3)
    torch.manual_seed(0)
    lab = 2 * lab + torch.randn(lab.shape)
    lab[..., 24 - padding :] = 0
    present = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    assert not present.all()
    options = dict(num_matches=num_matches, radius=radius, match_thr=threshold)
    loss = TemporalMatchLoss(temporal_in_box=in_box, **options)
    pairs = loss.build_pairs(lab, None, boxes, box_masks)
    colors = resize_to_nodes(lab, (24, 24), 2)
    inside = resize_to_nodes(box_masks, (24, 24), 2) > 0.5
    expected = temporal_matches(
        colors, inside, present, radius, num_matches, threshold, temporal_in_box=in_box
    )
    assert expected
    assert listed(pairs) == expected


def test_any_end_in_the_box_is_as_in_stpa():
    """Without a radius to look in, the match is STPA's neighbour without a shift."""
    lab, _, boxes, box_masks, _ = make_clip()
    for in_box in ('both', 'any'):
        ours = TemporalMatchLoss(radius=0, num_matches=1, match_thr=0, temporal_in_box=in_box)
        theirs = STPALoss(
            num_neighbors=5,
            color_thr=0,
            use_patch_corr=False,
            use_center_shift=False,
            temporal_in_box=in_box,
        )
        found = ours.build_pairs(lab, None, boxes, box_masks).counts()[2]
        assert torch.equal(found, theirs.build_pairs(lab, None, boxes, box_masks).counts()[2])
        assert found.sum() > 0


def test_a_moving_object_is_followed_without_its_box():
    generator = torch.Generator().manual_seed(0)
    texture = 40 * torch.randn(3, 32, 32, generator=generator)
    # two nodes, hence four pixels, to the right in each frame
    lab = torch.stack([texture.roll(4 * t, -1) for t in range(2)])
    box_masks = torch.ones(1, 2, 32, 32)
    boxes = torch.tensor([[[0.0, 0, 1, 1]] * 2])
    loss = TemporalMatchLoss(num_matches=1, radius=3, wrap_last=False)
    pairs = loss.build_pairs(lab, None, boxes, box_masks)
    inner = [(y2 - y, x2 - x) for _, _, y, x, y2, x2 in listed(pairs) if x < 13]
    assert inner
    assert set(inner) == {(0, 2)}


def test_spatial_pairs_and_loss_are_those_of_stpa():
    lab, _, boxes, box_masks, logits = make_clip()
    ours = TemporalMatchLoss(match_thr=1.0, radius=0, num_matches=1)
    # no temporal match survives a threshold of 1 on noisy frames
    pairs = ours.build_pairs(lab, None, boxes, box_masks)
    theirs = STPALoss(num_neighbors=2)
    expected = theirs.build_pairs(lab, None, boxes, box_masks)
    assert torch.equal(pairs.counts()[:2], expected.counts())
    torch.testing.assert_close(ours(logits, pairs), theirs(logits, expected))


def test_gradient_pulls_matched_points_together():
    lab, _, boxes, box_masks, _ = make_clip(count=1, absent=0)
    loss = TemporalMatchLoss(radius=1, match_thr=0.0)
    pairs = loss.build_pairs(lab, None, boxes, box_masks)
    logits = torch.zeros(1, 3, 12, 16)
    logits[:, 0] = 4
    logits = logits.requires_grad_()
    before = loss(logits, pairs)
    (grad,) = torch.autograd.grad(before, logits)
    assert loss(logits - 50 * grad, pairs) < before


def test_half_precision_logits_are_taken():
    lab, _, boxes, box_masks, logits = make_clip()
    loss = TemporalMatchLoss()
    pairs = loss.build_pairs(lab, None, boxes, box_masks)
    expected = loss(logits, pairs)
    torch.testing.assert_close(loss(logits.bfloat16(), pairs), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(
    'options', [dict(num_neighbors=7), dict(num_matches=0), dict(radius=1, num_matches=10)]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=r'num_neighbors|num_matches'):
        TemporalMatchLoss(**options)


def test_resizing_is_that_of_the_grid():
    # the twin above relies on nodes being every second pixel
    lab = torch.rand(1, 3, 16, 16)
    assert torch.equal(resize_to_nodes(lab, (16, 16), 2), lab[..., ::2, ::2])
    assert torch.equal(F.interpolate(lab, (16, 16), mode='bilinear'), lab)
