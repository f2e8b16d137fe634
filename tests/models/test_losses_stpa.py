from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mmboxvis.models.losses import (
    PairwiseAffinityLoss,
    STPALoss,
    pair_selection,
    patch_correlation,
)
from mmboxvis.models.losses.pairwise import pairwise_loss
from mmboxvis.registry import MODELS
from mmboxvis.structures import AffinityPairs, boxes_to_masks
from tests.reference import stpa as plain
from tests.reference import stpa_unfolded as unfolded


def make_clip(count=2, frames=3, height=48, width=64, channels=8, seed=0, absent=0.2):
    """Smooth colours and features that change a little from frame to frame, and moving boxes."""
    generator = torch.Generator().manual_seed(seed)

    def moving(depth, size, scale, noise):
        coarse = torch.randn(1, depth, 3, 4, generator=generator) * scale
        frame = F.interpolate(coarse, size, mode='bilinear')
        return frame + noise * torch.randn(frames, depth, *size, generator=generator)

    lab = moving(3, (height, width), 12, 0.3)
    features = moving(channels, (height // 4, width // 4), 1, 0.1)
    center = torch.rand(count, 1, 2, generator=generator)
    motion = 0.08 * torch.randn(count, frames, 2, generator=generator)
    half = 0.05 + 0.3 * torch.rand(count, 1, 2, generator=generator)
    # boxes may reach out of the image
    boxes = torch.cat([center + motion - half, center + motion + half], -1)
    present = torch.rand(count, frames, generator=generator) >= absent
    boxes = boxes * present[..., None]
    box_masks = boxes_to_masks(boxes * torch.tensor([width, height] * 2), (height, width))
    logits = 3 * torch.randn(count, frames, height // 4, width // 4, generator=generator)
    return lab, features, boxes, box_masks, logits


def compare(clip, *, anchor_outside=False, **options):
    *inputs, logits = clip
    loss_module = STPALoss(anchor_outside=anchor_outside, **options)
    pairs = loss_module.build_pairs(*inputs)
    expected_pairs = plain.build_pairs(*inputs, **options)
    assert torch.equal(pairs.counts(), expected_pairs.counts())
    assert pairs.num_pairs == int(expected_pairs.counts().sum())

    logits = logits.requires_grad_()
    loss = loss_module(logits, pairs)
    (grad,) = torch.autograd.grad(loss, logits)
    box_masks = inputs[-1] if anchor_outside else None
    expected = plain.stpa_loss(logits, expected_pairs, box_masks)
    (expected_grad,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grad, expected_grad, atol=1e-6, rtol=1e-3)
    return pairs


@pytest.fixture
def few_operations(monkeypatch):
    """What is done on a GPU, on the CPU."""
    for module in (pair_selection, patch_correlation):
        monkeypatch.setattr(module, 'works_in_pieces', lambda device: False)


@pytest.mark.parametrize('num_neighbors', [2, 4, 5, 7, 9])
@pytest.mark.parametrize('size', [(48, 64), (96, 512)])  # the second is halved
def test_the_way_of_a_gpu_finds_the_same_pairs(few_operations, num_neighbors, size):
    pairs = compare(make_clip(height=size[0], width=size[1]), num_neighbors=num_neighbors)
    assert pairs.num_pairs > 0
    either = dict(num_neighbors=num_neighbors, temporal_in_box='any', stride=1)
    compare(make_clip(count=3, height=size[0] // 2, width=size[1] // 2, seed=1), **either)


@pytest.mark.parametrize('count', [0, 1])
def test_the_way_of_a_gpu_with_nothing_to_compare(few_operations, count):
    lab, features, boxes, box_masks, logits = make_clip(count=count, absent=0)
    lab = 100 * torch.rand_like(lab)  # no two colours are alike
    compare((lab, features, boxes, box_masks, logits))


def test_no_instance():
    lab, features, boxes, box_masks, logits = make_clip(count=0)
    loss = STPALoss()
    pairs = loss.build_pairs(lab, features, boxes, box_masks)
    assert pairs.counts().shape == (7, 0) and pairs.num_pairs == 0
    value = loss(logits.requires_grad_(), pairs)
    value.backward()
    assert value.item() == 0 and logits.grad.shape == logits.shape


def test_nothing_kept_gives_zero_with_a_gradient_of_zero():
    lab, features, boxes, box_masks, logits = make_clip()
    loss = STPALoss()
    pairs = loss.build_pairs(lab, features, torch.zeros_like(boxes), torch.zeros_like(box_masks))
    value = loss(logits.requires_grad_(), pairs)
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_black_frames_and_features_of_zeros():
    lab, features, boxes, box_masks, logits = make_clip(absent=0)
    pairs = compare((torch.zeros_like(lab), torch.zeros_like(features), boxes, box_masks, logits))
    assert pairs.num_pairs > 0  # colours alone suffice: 1 >= 0.75


def test_a_single_frame_is_not_paired_with_itself():
    pairs = compare(make_clip(frames=1, absent=0))
    assert pairs.counts()[:2].sum() > 0
    assert pairs.counts()[2:].sum() == 0


def test_an_instance_missing_in_a_frame_has_no_temporal_pair_there():
    lab, features, boxes, box_masks, logits = make_clip(count=1, absent=0)
    boxes[0, 1], box_masks[0, 1] = 0, 0
    pairs = compare((lab, features, boxes, box_masks, logits))
    frames = pairs.nodes // (pairs.shape[2] * pairs.shape[3]) % 3
    assert set(frames.tolist()) == {0, 2}
    assert pairs.counts()[2:].sum() > 0  # the last frame with the first
    without_wrap = compare((lab, features, boxes, box_masks, logits), wrap_last=False)
    assert without_wrap.counts()[2:].sum() == 0


def test_temporal_pairs_with_both_ends_or_one_in_the_box():
    """In a clip of one colour, where every pair would be kept."""
    lab, features, boxes, box_masks, logits = make_clip(count=1, absent=0)
    clip = (torch.zeros_like(lab), torch.zeros_like(features), boxes, box_masks, logits)
    both = compare(clip, temporal_in_box='both').counts()
    either = compare(clip, temporal_in_box='any').counts()
    assert torch.equal(both[:2], either[:2])  # within a frame one end always suffices
    assert (both[2:] < either[2:]).all()


def test_outside_the_box_is_background():
    """Two wrong points agree over the edge of a box, unless what lies outside is known."""
    *inputs, logits = make_clip(count=2, absent=0)
    logits = torch.full_like(logits, 5.0).requires_grad_()
    free, anchored = STPALoss(), STPALoss(anchor_outside=True)
    assert free(logits, free.build_pairs(*inputs)).item() < 0.02
    pairs = anchored.build_pairs(*inputs)
    assert pairs.outside is not None and 0 < pairs.outside.sum() < len(pairs.nodes)
    (grad,) = torch.autograd.grad(anchored(logits, pairs), logits)
    assert grad.max() > 10 * -grad.min()  # towards the background, where it counts


def test_anchored_instances_can_be_selected():
    *inputs, logits = make_clip(count=3, absent=0)
    loss = STPALoss(anchor_outside=True)
    lab, features, boxes, box_masks = inputs
    order = torch.tensor([2, 0])
    chosen = loss(logits[order], loss.build_pairs(*inputs).select(order))
    expected_pairs = loss.build_pairs(lab, features, boxes[order], box_masks[order])
    torch.testing.assert_close(chosen, loss(logits[order], expected_pairs))


@pytest.mark.parametrize(
    'name',
    [
        'stpa_2_96x128_n3.npz',
        'stpa_4_96x128_n3.npz',
        'stpa_5_96x128_n3.npz',
        'stpa_7_96x128_n3.npz',
        'stpa_9_96x128_n3.npz',
        'stpa_7_64x96_n1.npz',
        'stpa_7_160x512_n4.npz',
    ],
)
def test_golden(golden, name):
    data = {key: torch.from_numpy(value) for key, value in np.load(golden / name).items()}
    loss = STPALoss(num_neighbors=len(data['offsets_dt_dx_dy']))
    assert torch.equal(torch.tensor(loss.offsets), data['offsets_dt_dx_dy'])
    pairs = loss.build_pairs(data['lab'], data['features'], data['boxes'], data['box_masks'])
    expected = data['pairs_per_offset']
    assert (pairs.counts() - expected).abs().sum() <= 0.005 * expected.sum()
    logits = data['mask_logits'].requires_grad_()
    value = loss(logits, pairs)
    value.backward()
    torch.testing.assert_close(value, data['loss'], atol=1e-4, rtol=0)
    largest = data['grad'].abs().max()
    torch.testing.assert_close(logits.grad / largest, data['grad'] / largest, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(0, 3),
    frames=st.integers(1, 4),
    size=st.sampled_from([(32, 48), (48, 32), (36, 44), (33, 47), (64, 64)]),
    num_neighbors=st.sampled_from([2, 4, 5, 7, 9]),
    max_side=st.sampled_from([480, 40]),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_program(count, frames, size, num_neighbors, max_side, seed):
    clip = make_clip(count, frames, *size, seed=seed)
    compare(clip, num_neighbors=num_neighbors, max_side=max_side)


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    options=st.fixed_dictionaries(
        {},
        optional={
            'use_patch_corr': st.booleans(),
            'use_center_shift': st.booleans(),
            'temporal_in_box': st.sampled_from(['both', 'any']),
            'wrap_last': st.booleans(),
            'dilation': st.integers(1, 6),
            'stride': st.integers(1, 4),
            'patch_size': st.sampled_from([1, 3, 5]),
            'color_thr': st.sampled_from([0.1, 0.6]),
            'corr_thr': st.sampled_from([0.5, 0.95]),
            'anchor_outside': st.booleans(),
        },
    ),
    num_neighbors=st.sampled_from([4, 5, 9]),
)
def test_options_equal_the_plain_program(seed, options, num_neighbors):
    compare(make_clip(seed=seed), num_neighbors=num_neighbors, **options)


def test_boxes_outside_the_image_and_jumps_across_it():
    lab, features, boxes, _, logits = make_clip(count=2, absent=0)
    boxes[0] += 2
    boxes[1] = torch.tensor([[-0.2, 0, 0.1, 0.3], [0.9, 0.7, 1.2, 1.0], [0.4, 0.4, 0.6, 0.6]])
    box_masks = boxes_to_masks(boxes * torch.tensor([64, 48] * 2), (48, 64))
    pairs = compare((lab, features, boxes, box_masks, logits))
    assert pairs.counts()[:, 0].sum() == 0 < pairs.counts()[:, 1].sum()


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize(('left', 'followed'), [(2, False), (3, True)])
def test_is_followed_as_long_as_three_nodes_of_a_frame_are_left(axis, left, followed):
    grid = (12, 20)
    centers = torch.full((1, 2, 2), 0.5)
    centers[0, :, 1 - axis] = torch.tensor([1.0, 1 + grid[axis] - left]) / grid[axis]  # xy
    boxes = torch.cat([centers - 0.01, centers + 0.01], -1)
    motion = pair_selection.follow_centers(boxes, grid)
    assert motion.shifts[:, axis].tolist() == [left - grid[axis], grid[axis] - left]
    assert motion.valid.tolist() == [followed] * 2


def test_rows_of_the_ablation_differ():
    """2+3 by colour, with correlation, and with shift, are three different selections."""
    *inputs, _ = make_clip(count=3, absent=0)
    counts = [
        STPALoss(num_neighbors=5, use_patch_corr=corr, use_center_shift=shift)
        .build_pairs(*inputs)
        .counts()
        for corr, shift in ((False, False), (True, False), (True, True))
    ]
    assert not torch.equal(counts[0], counts[1])
    assert torch.equal(counts[1][:2], counts[2][:2])
    assert not torch.equal(counts[1][2:], counts[2][2:])


def test_colors_only_needs_no_features():
    lab, features, boxes, box_masks, _ = make_clip()
    for loss in (STPALoss(num_neighbors=4), STPALoss(num_neighbors=5, use_patch_corr=False)):
        with_features = loss.build_pairs(lab, features, boxes, box_masks)
        without = loss.build_pairs(lab, None, boxes, box_masks)
        assert torch.equal(with_features.counts(), without.counts())


def test_baseline_is_the_two_neighbour_case():
    lab, features, boxes, box_masks, logits = make_clip(absent=0)
    baseline, general = PairwiseAffinityLoss(2.0), STPALoss(2.0, num_neighbors=2)
    pairs = baseline.build_pairs(lab, features, boxes, box_masks)
    expected = general.build_pairs(lab, None, boxes, box_masks)
    assert pairs.num_pairs > 0 and torch.equal(pairs.counts(), expected.counts())
    torch.testing.assert_close(baseline(logits, pairs), general(logits, expected))
    with pytest.raises(ValueError, match='num_neighbors must be 2 or 4'):
        PairwiseAffinityLoss(num_neighbors=7)


def test_logits_of_any_size():
    lab, features, boxes, box_masks, _ = make_clip(absent=0)
    loss = STPALoss()
    pairs = loss.build_pairs(lab, features, boxes, box_masks)
    expected_pairs = plain.build_pairs(lab, features, boxes, box_masks)
    for size in ((48, 64), (5, 7), (1, 1), (1, 9)):
        logits = torch.randn(2, 3, *size, requires_grad=True)
        (grad,) = torch.autograd.grad(loss(logits, pairs), logits)
        expected = plain.stpa_loss(logits, expected_pairs)
        torch.testing.assert_close(loss(logits, pairs), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            grad, torch.autograd.grad(expected, logits)[0], atol=1e-6, rtol=1e-3
        )


def test_gradient_by_hand_is_the_gradient():
    lab, features, boxes, box_masks, logits = make_clip(count=1, height=32, width=32)
    pairs = STPALoss().build_pairs(lab, features, boxes, box_masks)
    assert pairs.num_pairs > 0
    arguments = (pairs.samples, pairs.first, pairs.second, pairs.degrees)
    assert torch.autograd.gradcheck(
        lambda x: pairwise_loss(x, *arguments), logits.double().requires_grad_()
    )


def test_large_logits_stay_finite():
    lab, features, boxes, box_masks, logits = make_clip(absent=0)
    loss = STPALoss()
    pairs = loss.build_pairs(lab, features, boxes, box_masks)
    logits = (logits * 1e4).requires_grad_()
    value = loss(logits, pairs)
    value.backward()
    assert value.isfinite() and logits.grad.isfinite().all()
    agreeing = loss(torch.full_like(logits, -1e3), pairs)
    torch.testing.assert_close(agreeing, torch.tensor(0.0))


def test_weight_and_unneeded_gradient():
    *inputs, logits = make_clip(absent=0)
    pairs = STPALoss().build_pairs(*inputs)
    torch.testing.assert_close(STPALoss(3.0)(logits, pairs), 3 * STPALoss()(logits, pairs))
    assert not STPALoss()(logits, pairs).requires_grad


def test_arguments_are_left_alone_and_pairs_have_no_gradient():
    lab, features, boxes, box_masks, _ = make_clip()
    copies = [tensor.clone() for tensor in (lab, features, boxes, box_masks)]
    pairs = STPALoss().build_pairs(lab, features.requires_grad_(), boxes, box_masks)
    for tensor, copy in zip((lab, features, boxes, box_masks), copies):
        assert torch.equal(tensor, copy)
    assert not pairs.degrees.requires_grad


def test_stays_float32_under_autocast():
    lab, features, boxes, box_masks, logits = make_clip(absent=0)
    features, logits = features.bfloat16(), logits.bfloat16()
    loss = STPALoss()
    expected_pairs = loss.build_pairs(lab, features.float(), boxes, box_masks)
    expected = loss(logits.float(), expected_pairs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        pairs = loss.build_pairs(lab, features, boxes, box_masks)
        value = loss(logits.requires_grad_(), pairs)
    value.backward()
    assert torch.equal(pairs.counts(), expected_pairs.counts())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    assert logits.grad.dtype == torch.bfloat16


@pytest.mark.parametrize('width', [64, 496])  # the latter is halved
def test_what_speed_is_compared_with_does_the_same(width):
    *inputs, logits = make_clip(count=3, width=width)
    pairs, expected_pairs = STPALoss().build_pairs(*inputs), unfolded.build_pairs(*inputs)
    assert pairs.num_pairs > 0
    assert torch.equal(pairs.counts(), expected_pairs.keep.flatten(2).sum(-1))
    logits = logits.requires_grad_()
    losses = STPALoss()(logits, pairs), unfolded.stpa_loss(logits, expected_pairs)
    torch.testing.assert_close(losses[0], losses[1])
    grads = [torch.autograd.grad(loss, logits)[0] for loss in losses]
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-3)


class WaitsForTheDevice(TorchDispatchMode):
    """Counts the operations whose result the host must know before it can go on."""

    OPS = {'aten::nonzero', 'aten::_local_scalar_dense', 'aten::unique_dim', 'aten::_unique2'}

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name in self.OPS
        return func(*args, **(kwargs or {}))


def test_waits_for_the_device_do_not_grow_with_instances_frames_or_layers():
    counts = []
    for count, frames in ((1, 2), (8, 2), (2, 6)):
        *inputs, logits = make_clip(count=count, frames=frames, absent=0)
        with WaitsForTheDevice() as waits:
            pairs = STPALoss().build_pairs(*inputs)
            counts.append(waits.count)
            STPALoss()(logits.requires_grad_(), pairs).backward()
        assert waits.count == counts[-1], 'the loss itself never waits'
    # up to four groups of shifts wait a fixed number of times each
    assert max(counts) <= 40 and max(counts) - min(counts) <= 9


@pytest.mark.slow
def test_inductor_compiles_the_loss():
    inductor = pytest.importorskip(
        'torch._inductor.cpp_builder', reason='this torch has another inductor'
    )
    try:
        inductor.get_cpp_compiler()
    except RuntimeError as error:
        pytest.skip(f'inductor needs a C++ compiler: {error}')
    *inputs, logits = make_clip(absent=0)
    loss = STPALoss()
    pairs, logits = loss.build_pairs(*inputs), logits.requires_grad_()
    # the pairs are lists of a length that the host must learn, so building them is left eager
    value = torch.compile(loss, fullgraph=True)(logits, pairs)
    expected = loss(logits, pairs)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        torch.autograd.grad(value, logits)[0], torch.autograd.grad(expected, logits)[0]
    )


def test_compiles_without_a_break():
    *inputs, logits = make_clip(absent=0)
    loss = STPALoss()
    pairs = loss.build_pairs(*inputs)
    logits = logits.requires_grad_()
    compiled = torch.compile(loss, backend='aot_eager', fullgraph=True)
    value = compiled(logits, pairs)
    torch.testing.assert_close(value, loss(logits, pairs))
    (grad,) = torch.autograd.grad(value, logits)
    (expected,) = torch.autograd.grad(loss(logits, pairs), logits)
    torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'num_neighbors': 3}, 'num_neighbors'),
        ({'patch_size': 2}, 'patch_size'),
        ({'stride': 0}, 'stride'),
        ({'temporal_in_box': 'none'}, 'temporal_in_box'),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        STPALoss(**options)


def test_refuses_bad_inputs():
    lab, features, boxes, box_masks, logits = make_clip()
    loss = STPALoss()
    for bad, message in (
        ((lab[:, :2], features, boxes, box_masks), 'lab must be'),
        ((lab, None, boxes, box_masks), 'use_patch_corr=False'),
        ((lab, features[:1], boxes, box_masks), 'features must be'),
        ((lab, features, boxes[:, :1], box_masks), 'boxes must be'),
        ((lab, features, boxes, box_masks[..., 1:]), 'box_masks must be'),
    ):
        with pytest.raises(ValueError, match=message):
            loss.build_pairs(*bad)
    pairs = loss.build_pairs(lab, features, boxes, box_masks)
    with pytest.raises(ValueError, match='select'):
        loss(logits[:1], pairs)


def test_registered_and_called_alike():
    for name in ('STPALoss', 'PairwiseAffinityLoss'):
        loss = MODELS.build(dict(type=name, loss_weight=1.5))
        assert loss.loss_weight == 1.5
        assert list(inspect.signature(loss.build_pairs).parameters) == [
            'lab',
            'features',
            'boxes',
            'box_masks',
        ]
    assert 'num_neighbors=7' in repr(STPALoss())
    assert AffinityPairs.__dataclass_params__.frozen


def test_selected_pairs_are_those_of_the_selected_instances():
    lab, features, boxes, box_masks, logits = make_clip(count=4, absent=0)
    loss = STPALoss()
    pairs = loss.build_pairs(lab, features, boxes, box_masks)
    for inds in ([2, 0], [3], [1, 3, 0, 2]):
        index = torch.tensor(inds)
        expected = loss.build_pairs(lab, features, boxes[index], box_masks[index])
        selected = pairs.select(index)
        assert torch.equal(selected.counts(), expected.counts())
        own = logits[index].requires_grad_()
        values = [loss(own, chosen) for chosen in (selected, expected)]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*(torch.autograd.grad(value, own)[0] for value in values))
