"""Spatio-temporal IoU against the plain one."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from mmboxvis.evaluation.functional import box_track_iou, track_iou
from mmboxvis.evaluation.functional.track_iou import frame_areas
from tests.reference import vis_eval as plain

module = importlib.import_module('mmboxvis.evaluation.functional.track_iou')


def encode(mask: np.ndarray) -> dict:
    return mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))


def random_tracks(rng: np.random.Generator, num: int, frames: int) -> list[list[dict | None]]:
    density = rng.random((num, frames))
    return [
        [None if d < 0.3 else encode(rng.random((7, 9)) < d - 0.35) for d in row] for row in density
    ]


def test_no_track() -> None:
    assert track_iou([], []).shape == (0, 0)
    assert track_iou([[None, None]], []).shape == (1, 0)
    assert box_track_iou(np.zeros((0, 3, 4)), np.zeros((2, 3, 4))).shape == (0, 2)


def test_absent_everywhere_is_zero() -> None:
    empty = encode(np.zeros((4, 4)))
    assert track_iou([[None, None], [empty, None]], [[None, empty]]).tolist() == [[0.0], [0.0]]
    assert box_track_iou(np.zeros((1, 2, 4)), np.zeros((1, 2, 4))).tolist() == [[0.0]]


def test_a_frame_seen_by_one_adds_to_the_union() -> None:
    square = np.zeros((6, 6))
    square[1:3, 1:3] = 1
    mask = encode(square)
    assert track_iou([[mask, mask, None]], [[mask, None, mask]])[0, 0] == pytest.approx(1 / 3)
    boxes = np.array([[[1, 1, 2, 2]] * 3], dtype=float)
    other = boxes.copy()
    boxes[0, 2] = other[0, 1] = 0
    assert box_track_iou(boxes, other)[0, 0] == pytest.approx(1 / 3)


@pytest.mark.parametrize('few_pairs', [0, 16])
@given(
    seed=st.integers(0, 2**32 - 1),
    num=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    frames=st.integers(1, 5),
)
@settings(deadline=None, max_examples=60)
def test_masks_agree_with_merging_each_pair(
    few_pairs: int, seed: int, num: tuple[int, int], frames: int
) -> None:
    rng = np.random.default_rng(seed)
    a, b = (random_tracks(rng, n, frames) for n in num)
    expected = np.array([[plain.mask_iou(x, y) for y in b] for x in a]).reshape(num)
    areas = tuple(np.reshape([frame_areas(x) for x in some], (-1, frames)) for some in (a, b))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, '_FEW_PAIRS', few_pairs)
        assert (track_iou(a, b) == expected).all()
        assert (track_iou(a, b, areas=areas) == expected).all()
        close = track_iou(a, b, min_frame_iou=0.3)
        parts = [[track_iou([x], [y], min_frame_iou=0.3)[0, 0] for y in b] for x in a]
        assert (close == np.reshape(parts, num)).all()


@pytest.mark.parametrize('few_pairs', [0, 16])
def test_only_frames_that_overlap_enough(few_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, '_FEW_PAIRS', few_pairs)
    wide, left = np.ones((4, 8)), np.zeros((4, 8))
    left[:, :2] = 1
    a = [[encode(wide), encode(wide), encode(wide), None]]
    b = [[encode(wide), encode(left), None, encode(left)]]
    assert track_iou(a, b)[0, 0] == pytest.approx(40 / (32 + 32 + 32 + 8))
    assert track_iou(a, b, min_frame_iou=0.2)[0, 0] == pytest.approx(40 / 64)
    assert track_iou(a, b, min_frame_iou=0.3)[0, 0] == 1


@given(
    seed=st.integers(0, 2**32 - 1),
    num=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    frames=st.integers(1, 5),
)
@settings(deadline=None, max_examples=60)
def test_boxes_agree_with_each_pair(seed: int, num: tuple[int, int], frames: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.uniform(0, 8, (n, frames, 4)) * (rng.random((n, frames, 1)) < 0.8) for n in num)

    def listed(track: np.ndarray) -> list:
        return [box.tolist() if box.any() else None for box in track]

    expected = [[plain.box_iou(listed(x), listed(y)) for y in b] for x in a]
    np.testing.assert_allclose(
        box_track_iou(a, b), np.array(expected).reshape(num), rtol=1e-12, atol=1e-15
    )


def test_large_masks_are_exact() -> None:
    rng = np.random.default_rng(0)
    coarse = [rng.random((68, 120)) < 0.5 for _ in range(2)]
    a, b = (np.kron(mask, np.ones((32, 32))) for mask in coarse)
    expected = (coarse[0] & coarse[1]).sum() / (coarse[0] | coarse[1]).sum()
    assert track_iou([[encode(a)] * 40], [[encode(b)] * 40])[0, 0] == expected


def test_lengths_and_sizes_must_agree() -> None:
    small, large = encode(np.ones((4, 4))), encode(np.ones((5, 4)))
    with pytest.raises(ValueError, match=r'differ in length: \[1, 2\]'):
        track_iou([[small]], [[small, None]])
    with pytest.raises(ValueError, match='frame 1: masks of different sizes'):
        track_iou([[None, small]], [[None, large]])
    with pytest.raises(ValueError, match='differ in length'):
        box_track_iou(np.zeros((1, 2, 4)), np.zeros((1, 3, 4)))
