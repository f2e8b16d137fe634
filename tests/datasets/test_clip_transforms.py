from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.datasets import (
    ClipRandomCrop,
    ClipRandomFlip,
    ClipResizeShortEdge,
    ClipRotate,
    ImageToClip,
    PackClipInputs,
)
from mmboxvis.datasets.transforms.instances import boxes_from_masks
from mmboxvis.datasets.transforms.resize import short_edge_size
from mmboxvis.structures import ClipTargets
from tests.reference import clip_geometry

TRANSFORMS = {
    'flip': ClipRandomFlip(1.0),
    'maybe flip': ClipRandomFlip(0.5),
    'crop': ClipRandomCrop(12, 40),
    'resize pillow': ClipResizeShortEdge((16, 30, 57), max_long=90),
    'resize cv2': ClipResizeShortEdge((16, 30, 57), max_long=90, backend='cv2'),
    'rotate': ClipRotate(25, (0.2, 0.8)),
}


def make_clip(
    num_frames: int, size: tuple[int, int], num_instances: int, seed: int
) -> dict[str, Any]:
    """Rectangles with boxes around them; the first is painted into the frames' first channel."""
    rng = np.random.default_rng(seed)
    height, width = size
    masks = np.zeros((num_instances, num_frames, height, width), np.uint8)
    for n in range(num_instances):
        for t in range(num_frames):
            if t > 0 and rng.random() < 0.3:
                continue
            x1, y1 = rng.integers(0, width - 6), rng.integers(0, height - 6)
            x2, y2 = rng.integers(x1 + 5, width), rng.integers(y1 + 5, height)
            masks[n, t, y1:y2, x1:x2] = 1
    boxes, valid = boxes_from_masks(masks)
    imgs = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(num_frames)]
    for t, img in enumerate(imgs):
        img[..., 0] = 255 * masks[0, t] if num_instances else 0
    return dict(
        imgs=imgs, ori_shape=size, img_paths=[f'{t}.png' for t in range(num_frames)],
        frame_ids=list(range(num_frames)), video_id=1, video_name='v', video_length=num_frames,
        gt_ids=10 + np.arange(num_instances), gt_labels=np.arange(num_instances) * 2,
        gt_bboxes=boxes, gt_valid=valid, gt_masks=masks, box_source='box', load_masks=True,
    )  # fmt: skip


def assert_same(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for key in one:
        if isinstance(one[key], (list, np.ndarray)):
            assert all(np.array_equal(a, b) for a, b in zip(one[key], other[key], strict=True))
        else:
            assert one[key] == other[key]


clips = st.builds(
    make_clip,
    num_frames=st.integers(1, 4),
    size=st.tuples(st.integers(24, 60), st.integers(24, 60)),
    num_instances=st.integers(0, 4),
    seed=st.integers(0, 10**6),
)


@pytest.mark.parametrize('name', TRANSFORMS)
@settings(deadline=None, max_examples=40)
@given(clip=clips, seed=st.integers(0, 10**6))
def test_frames_boxes_and_masks_stay_together(name, clip, seed):
    before = copy.deepcopy(clip)
    np.random.seed(seed)
    after = TRANSFORMS[name](clip)
    assert_same(clip, before)

    masks, boxes, valid = after['gt_masks'], after['gt_bboxes'], after['gt_valid']
    number, frames = valid.shape
    height, width = after['imgs'][0].shape[:2]
    assert all(img.shape == (height, width, 3) for img in after['imgs'])
    assert masks.shape == (number, frames, height, width)
    assert boxes.shape == (number, frames, 4) and boxes.dtype == np.float32
    assert (after['gt_labels'] == 2 * (after['gt_ids'] - 10)).all()
    assert valid.any(1).all()
    assert (boxes[~valid] == 0).all() and not masks[~valid].any()
    inside = boxes[valid]
    assert (inside >= 0).all() and (inside <= [width, height, width, height]).all()
    assert (inside[:, 2:] > inside[:, :2]).all()

    # the mask lies in its box; where axes stay axes, it fills it
    tight, filled = boxes_from_masks(masks)
    slack = 0 if 'flip' in name or name == 'crop' else 1
    assert (tight[filled][:, :2] >= boxes[filled][:, :2] - slack).all()
    assert (tight[filled][:, 2:] <= boxes[filled][:, 2:] + slack).all()
    if name != 'rotate':
        assert np.abs(tight[filled] - boxes[filled]).max(initial=0) <= slack

    # and the frame was moved as the mask was
    if number and after['gt_ids'][0] == 10:
        for t, img in enumerate(after['imgs']):
            differs = (img[..., 0] > 127) != (masks[0, t] > 0)
            edge = 2 * (tight[0, t, 2:] - tight[0, t, :2]).sum()
            assert differs.sum() <= (0 if slack == 0 else 0.6 * edge + 4)


@pytest.mark.parametrize('name', TRANSFORMS)
def test_without_annotations_and_masks(name):
    clip = make_clip(2, (30, 40), 2, 0)
    del clip['gt_masks']
    assert 'gt_masks' not in TRANSFORMS[name](clip)
    for key in ('gt_ids', 'gt_labels', 'gt_bboxes', 'gt_valid'):
        del clip[key]
    assert 'gt_bboxes' not in TRANSFORMS[name](clip)


@pytest.mark.parametrize('name', TRANSFORMS)
def test_numpy_seed_decides(name):
    clip = make_clip(3, (50, 44), 3, 1)
    np.random.seed(5)
    first = TRANSFORMS[name](clip)
    np.random.seed(5)
    assert_same(TRANSFORMS[name](clip), first)


@settings(deadline=None, max_examples=30)
@given(clip=clips)
def test_boxes_from_masks_against_reference(clip):
    boxes, valid = boxes_from_masks(clip['gt_masks'])
    slow_boxes, slow_valid = clip_geometry.boxes_from_masks(clip['gt_masks'])
    assert np.array_equal(boxes, slow_boxes) and np.array_equal(valid, slow_valid)


def test_flip_by_hand():
    clip = make_clip(1, (30, 40), 1, 0)
    clip['gt_bboxes'] = np.array([[[3, 4, 10, 20]]], np.float32)
    assert ClipRandomFlip(1.0)(clip)['gt_bboxes'].tolist() == [[[30, 4, 37, 20]]]
    assert ClipRandomFlip(0.0)(clip)['gt_bboxes'].tolist() == [[[3, 4, 10, 20]]]


def test_flip_chance_is_per_clip():
    clip = make_clip(3, (24, 24), 0, 0)
    np.random.seed(0)
    flipped = [
        [not np.array_equal(a, b) for a, b in zip(ClipRandomFlip(0.5)(clip)['imgs'], clip['imgs'])]
        for _ in range(200)
    ]
    assert all(len(set(frames)) == 1 for frames in flipped)
    assert 70 < sum(frames[0] for frames in flipped) < 130


@pytest.mark.parametrize(
    ('size', 'edge', 'longest', 'expected'),
    [
        ((720, 1280), 360, 1333, (360, 640)),
        ((720, 1280), 512, 800, (450, 800)),
        ((1280, 720), 512, 800, (800, 450)),
        ((240, 427), 320, None, (320, 569)),
        ((100, 100), 100, 100, (100, 100)),
    ],
)
def test_short_edge_size(size, edge, longest, expected):
    assert short_edge_size(size, edge, longest) == expected


def test_resize_draws_all_edges():
    clip = make_clip(1, (24, 30), 0, 0)
    resize = ClipResizeShortEdge((8, 12, 16), max_long=None)
    edges = {min(resize(clip)['imgs'][0].shape[:2]) for _ in range(60)}
    assert edges == {8, 12, 16}


@pytest.mark.parametrize(('old', 'new'), [(720, 384), (640, 384), (1080, 448), (480, 512)])
def test_edges_that_fall_between_pixels_stay_there(old, new):
    """As in whole numbers: an edge an ulp further on would be in one row more."""
    edges = np.arange(1, old + 1)
    boxes = np.zeros((old, 1, 4), np.float32)
    boxes[:, 0, 2:] = edges[:, None]
    clip = dict(
        make_clip(1, (old, old), 0, 0), gt_ids=edges, gt_labels=edges, gt_bboxes=boxes,
        gt_valid=np.ones((old, 1), bool),
    )  # fmt: skip
    del clip['gt_masks']
    resized = ClipResizeShortEdge(new, None)(clip)['gt_bboxes']
    assert resized.dtype == np.float32
    for bound, rounded in ((np.ceil, -(-edges * new // old)), (np.floor, edges * new // old)):
        assert np.array_equal(bound(resized[:, 0, 3]), rounded)
        assert np.array_equal(bound(resized[:, 0, 2]), rounded)


def test_pillow_smooths_when_shrinking():
    """A fine checkerboard becomes grey with pillow, and stays one with cv2."""
    clip = make_clip(1, (80, 80), 0, 0)
    board = (np.indices((80, 80)).sum(0) % 2 * 255).astype(np.uint8)
    clip['imgs'] = [np.repeat(board[..., None], 3, 2)]
    smooth = ClipResizeShortEdge(20, None, 'pillow')(clip)['imgs'][0]
    assert smooth[2:-2, 2:-2].std() < 5


def test_crop_path_is_straight_and_inside():
    """The window's corner can be read off frames that hold their own coordinates."""
    height, width, frames = 200, 230, 6
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, x * 0], -1).astype(np.uint8)
    clip = dict(make_clip(frames, (height, width), 0, 0), imgs=[image] * frames)
    directions = set()
    for seed in range(60):
        np.random.seed(seed)
        cropped = ClipRandomCrop(50, 90)(clip)['imgs']
        h, w = cropped[0].shape[:2]
        assert 50 <= h <= 90 and 50 <= w <= 90
        corners = np.array([img[0, 0, :2] for img in cropped], float)
        assert (corners >= 0).all() and (corners <= [height - h, width - w]).all()
        steps = np.diff(corners, axis=0)
        assert ((steps >= 0).all(0) | (steps <= 0).all(0)).all()
        along = corners[-1] - corners[0]
        off = np.abs(
            along[0] * (corners - corners[0])[:, 1] - along[1] * (corners - corners[0])[:, 0]
        )
        assert (off <= 1.5 * max(np.linalg.norm(along), 1)).all()
        directions.add(np.sign(along.sum()))
    assert {-1.0, 1.0} <= directions


def test_crop_of_a_small_image_keeps_it():
    clip = make_clip(2, (30, 40), 2, 0)
    assert_same(ClipRandomCrop(320, 480)(clip), clip)


def test_crop_size_is_uniform_in_both_sides():
    clip = make_clip(1, (60, 24), 0, 0)
    np.random.seed(0)
    sizes = [ClipRandomCrop(20, 23)(clip)['imgs'][0].shape[:2] for _ in range(800)]
    counts = np.zeros((4, 4))
    for h, w in sizes:
        counts[h - 20, w - 20] += 1
    assert counts.min() > 25 and counts.max() < 80


@settings(deadline=None, max_examples=40)
@given(
    angle=st.floats(-15, 15),
    box=st.tuples(st.floats(20, 40), st.floats(20, 40), st.floats(45, 60), st.floats(45, 60)),
)
def test_rotate_boxes_against_reference(angle, box):
    clip = make_clip(1, (90, 100), 1, 0)
    clip['gt_bboxes'] = np.array([[box]], np.float32)
    rotate = ClipRotate(0, (0.5, 0.5))
    rotate.max_angle = 0
    with pytest.MonkeyPatch.context() as patch:
        uniform = np.random.uniform
        patch.setattr(
            np.random,
            'uniform',
            lambda low, high, size: np.full(size, angle) if low == 0 else uniform(low, high, size),
        )
        found = rotate(clip)['gt_bboxes'][0, 0]
    expected = clip_geometry.rotate_box(list(box), angle, (50, 45))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_rotation_angles_are_sorted_one_way():
    """A bright dot moves around the centre monotonically."""
    clip = make_clip(5, (101, 101), 0, 0)
    dot = np.zeros((101, 101, 3), np.uint8)
    dot[48:53, 88:93] = 255
    clip['imgs'] = [dot] * 5
    signs = set()
    for seed in range(12):
        np.random.seed(seed)
        rows = [np.nonzero(img[..., 0])[0].mean() for img in ClipRotate(15)(clip)['imgs']]
        steps = np.diff(rows)
        assert (steps > -0.6).all() or (steps < 0.6).all()
        signs.add(np.sign(rows[-1] - rows[0]))
    assert signs == {-1.0, 1.0}


def test_image_to_clip():
    clip = make_clip(1, (30, 40), 2, 0)
    repeated = ImageToClip(3)(clip)
    assert len(repeated['imgs']) == len(repeated['img_paths']) == 3
    assert repeated['frame_ids'] == [0, 1, 2]
    assert repeated['gt_masks'].shape[1] == 3 and repeated['gt_valid'].shape == (2, 3)
    with pytest.raises(ValueError, match='leave it out for videos'):
        ImageToClip(3)(repeated)


def test_pack_empty():
    clip = make_clip(2, (30, 40), 0, 0)
    packed = PackClipInputs()(clip)
    frame = packed['data_samples'].video_data_samples[1].gt_instances
    assert frame.bboxes.shape == (0, 4) and len(frame.masks) == 0
    targets = ClipTargets.from_data_sample(packed['data_samples'], (32, 64))
    assert targets.boxes.shape == (0, 2, 4)


def test_pack_agrees_with_targets():
    clip = make_clip(3, (30, 40), 3, 4)
    packed = PackClipInputs()(clip)
    assert packed['inputs'].shape == (3, 3, 30, 40) and packed['inputs'].is_contiguous()
    assert (packed['inputs'][2].permute(1, 2, 0).numpy() == clip['imgs'][2]).all()
    targets = ClipTargets.from_data_sample(packed['data_samples'], (32, 64))
    assert targets.instance_ids.tolist() == clip['gt_ids'].tolist()
    assert targets.labels.tolist() == clip['gt_labels'].tolist()
    pixels = targets.boxes.numpy() * [64, 32, 64, 32]
    np.testing.assert_allclose(pixels, clip['gt_bboxes'], atol=1e-4)
    assert (targets.masks.numpy()[..., :30, :40] == clip['gt_masks']).all()


def test_pack_boxes_from_masks():
    clip = make_clip(2, (30, 40), 2, 4)
    clip.update(gt_bboxes=clip['gt_bboxes'] * 0 + [0, 0, 40, 30], gt_valid=clip['gt_valid'] | True)
    clip.update(box_source='mask', load_masks=False)
    frames = PackClipInputs()(clip)['data_samples'].video_data_samples
    tight, valid = boxes_from_masks(clip['gt_masks'])
    for t, frame in enumerate(frames):
        assert 'masks' not in frame.gt_instances
        assert (frame.gt_instances.bboxes.numpy() == tight[valid[:, t], t]).all()
        assert frame.gt_instances.instances_ids.tolist() == clip['gt_ids'][valid[:, t]].tolist()


@pytest.mark.parametrize(
    'make',
    [
        lambda: ClipRandomFlip(1.2),
        lambda: ClipRandomCrop(20, 10),
        lambda: ClipRotate(-1),
        lambda: ClipResizeShortEdge(()),
        lambda: ClipResizeShortEdge(20, backend='turbo'),
        lambda: ImageToClip(0),
    ],
)
def test_arguments_are_checked(make):
    with pytest.raises(ValueError):
        make()
