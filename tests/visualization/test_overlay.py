from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_utils

from mmboxvis.visualization import draw_tracks, overlay_frames, track_color

NAMES = ('cat', 'dog')


def gray(height: int = 256, width: int = 320) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def square(height: int, width: int, y: int, x: int, side: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def encode(mask: np.ndarray) -> dict:
    rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {**rle, 'counts': rle['counts'].decode()}


def test_no_tracks_gives_an_equal_copy() -> None:
    frame = gray()
    for masks in ([], np.zeros((0, 256, 320), bool), None):
        drawn = draw_tracks(frame, masks=masks, labels=[], class_names=NAMES)
        assert drawn is not frame
        assert not np.shares_memory(drawn, frame)
        np.testing.assert_array_equal(drawn, frame)


def test_absent_tracks_draw_nothing() -> None:
    frame = gray()
    drawn = draw_tracks(
        frame,
        masks=[None, np.zeros((256, 320), bool)],
        boxes=[None, (0, 0, 0, 0)],
        labels=[0, 1],
        scores=[0.9, 0.8],
        class_names=NAMES,
    )
    np.testing.assert_array_equal(drawn, frame)


def test_fill_is_blended_inside_the_mask_only() -> None:
    frame = gray()
    mask = square(256, 320, 100, 120, 60)
    drawn = draw_tracks(
        frame, masks=mask[None], labels=[1], track_ids=[4], class_names=NAMES, alpha=0.5
    )
    expected = np.rint(90 * 0.5 + np.array(track_color(4)) * 0.5)
    np.testing.assert_allclose(drawn[130, 150], expected, atol=1)
    # far from mask and caption nothing changes
    np.testing.assert_array_equal(drawn[200:], frame[200:])
    np.testing.assert_array_equal(drawn[:, 280:], frame[:, 280:])
    # the caption's plate stands above the mask
    assert (drawn[85:100, 120:160] == track_color(4)).all(-1).any()


def test_input_is_untouched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (256, 300, 3)).astype(np.uint8)
    masks = np.stack([square(256, 300, 20, 30, 90), square(256, 300, 60, 80, 90)])
    boxes = np.array([[30.0, 20, 120, 110], [80, 60, 170, 150]])
    trails = [np.array([[1.0, 2], [50, 60]]), None]
    before = [array.copy() for array in (frame, masks, boxes, trails[0])]
    for array in (frame, masks, boxes, trails[0]):
        array.flags.writeable = False
    draw_tracks(
        frame, masks=masks, boxes=boxes, labels=[0, 1], scores=[0.5, 0.7], track_ids=[0, 1],
        class_names=NAMES, trails=trails,
    )  # fmt: skip
    for array, copy in zip((frame, masks, boxes, trails[0]), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_rle_masks_and_bitmaps_look_alike() -> None:
    frame = gray()
    masks = [square(256, 320, 100, 120, 60), square(256, 320, 30, 200, 40)]
    arguments = dict(labels=[0, 1], scores=[0.5, 0.25], track_ids=[7, 8], class_names=NAMES)
    from_bitmaps = draw_tracks(frame, masks=np.stack(masks), **arguments)
    from_rles = draw_tracks(frame, masks=[encode(mask) for mask in masks], **arguments)
    np.testing.assert_array_equal(from_bitmaps, from_rles)


def test_masks_of_another_size_are_brought_to_the_frame() -> None:
    frame = gray()
    rle = encode(square(128, 160, 50, 60, 30))
    drawn = draw_tracks(frame, masks=[rle], labels=[0], class_names=NAMES)
    assert (drawn[130, 150] != 90).any()
    np.testing.assert_array_equal(drawn[210:], frame[210:])


@pytest.mark.parametrize(
    ('size', 'expected'),
    [
        ((64, 96), (256, 384)),
        ((256, 300), (256, 300)),
        ((240, 427), (480, 854)),
        ((32, 1000), (128, 4000)),  # no encoder takes a side of 8000
    ],
)
def test_small_frames_are_enlarged_for_display(size: tuple, expected: tuple) -> None:
    mask = square(*size, 10, 10, 20)
    drawn = draw_tracks(gray(*size), masks=[mask], labels=[0], class_names=NAMES)
    assert drawn.shape == (*expected, 3)
    kept = draw_tracks(gray(*size), masks=[mask], labels=[0], class_names=NAMES, min_side=None)
    assert kept.shape == (*size, 3)


def test_box_is_drawn_where_it_is() -> None:
    drawn = draw_tracks(
        gray(), masks=None, boxes=[(100, 120, 180, 200)], labels=[0], class_names=NAMES
    )
    color = np.array(track_color(0))
    for y, x in ((150, 100), (150, 179), (199, 150)):
        np.testing.assert_array_equal(drawn[y, x], color)
    np.testing.assert_array_equal(drawn[150, 150], gray()[150, 150])


@settings(deadline=None, max_examples=40)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    corners=st.lists(st.tuples(*[st.integers(-80, 150)] * 4), max_size=6),
)
def test_any_box_can_be_drawn(size: tuple, corners: list) -> None:
    labels = [0] * len(corners)
    drawn = draw_tracks(
        gray(*size), masks=None, boxes=corners, labels=labels, track_ids=range(len(labels)),
        class_names=['a rather long class name'], min_side=None,
    )  # fmt: skip
    assert drawn.shape == (*size, 3)


def test_colors_are_stable_and_far_apart() -> None:
    assert [track_color(i) for i in range(50)] == [track_color(i) for i in range(50)]
    assert all(0 <= c <= 255 for i in range(-5, 50) for c in track_color(i))
    bgr = np.array([[track_color(i) for i in range(12)]], np.uint8)
    lab = cv2.cvtColor(bgr.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=-1)
    # CIE76: 2.3 is a just noticeable difference
    assert distance[~np.eye(12, dtype=bool)].min() > 20


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (dict(scores=[0.1, 0.2]), '2 scores'),
        (dict(masks=[]), '0 masks'),
        (dict(labels=[2]), 'label 2'),
        (dict(labels=[-1]), 'label -1'),
        (dict(labels=[3], class_names={1: 'cat'}), 'label 3'),
    ],
)
def test_bad_input_is_named(change: dict, words: str) -> None:
    arguments = dict(masks=[square(256, 320, 9, 9, 9)], labels=[0], class_names=NAMES) | change
    with pytest.raises(ValueError, match=words):
        draw_tracks(gray(), **arguments)


def test_bad_frame_is_named() -> None:
    with pytest.raises(ValueError, match='uint8 BGR'):
        draw_tracks(gray().astype(np.float32), masks=None, labels=[], class_names=NAMES)


def test_overlay_frames_is_lazy_and_follows_the_frames() -> None:
    asked = []

    def frames():
        for t in range(3):
            asked.append(t)
            yield gray()

    track = [encode(square(256, 320, 100, 40 + 60 * t, 30)) for t in range(3)]
    track[1] = None
    drawn = overlay_frames(frames(), [track], labels=[0], class_names=NAMES, trail_length=4)
    assert asked == []
    first = next(drawn)
    assert asked == [0]
    assert (first[115, 55] != 90).any()
    np.testing.assert_array_equal(next(drawn), gray())
    last = next(drawn)
    assert (last[115, 175] != 90).any()
    assert (last[115, 55] != 90).any(), 'the centre before the gap is drawn'
    assert (last[114, 110] == 90).all(), 'no line leads over the gap'


@pytest.mark.parametrize('length', [0, 1, 3])
def test_trails_show_the_last_frames_not_the_last_sights(length: int) -> None:
    centers = [30, None, 90, 120, 150, None, 210]
    boxes = [None if x is None else [x - 10, 100, x + 10, 120] for x in centers]
    drawn = overlay_frames(
        [gray()] * 7, None, boxes=[boxes], labels=[0], class_names=NAMES, trail_length=length
    )
    *_, fifth, _, last = drawn
    for frame, now in ((fifth, 4), (last, 6)):
        row = (frame[110] != 90).any(-1)
        for t, x in enumerate(centers):
            assert x is None or t == now or row[x] == (now - length <= t < now)
    # the way between two frames, and none over the frame without a box
    assert (fifth[110, 135] != 90).any() == (length >= 1)
    assert (fifth[110, 105] != 90).any() == (length >= 2)
    assert (fifth[110, 60] == 90).all() and (last[110, 180] == 90).all()


def test_overlay_frames_names_a_short_track() -> None:
    with pytest.raises(ValueError, match='track 0 has 1 segmentations'):
        list(overlay_frames([gray(), gray()], [[None]], labels=[0], class_names=NAMES))


def test_overlay_frames_draws_boxes_around_masks_and_boxes_alone() -> None:
    mask = square(256, 320, 100, 40, 30)
    common = dict(labels=[0], class_names=NAMES)
    plain, boxed = (
        next(overlay_frames([gray()], [[encode(mask)]], show_boxes=show, **common))
        for show in (False, True)
    )
    changed = np.argwhere((plain != boxed).any(-1))
    assert changed.min(0).tolist() >= [98, 38] and changed.max(0).tolist() <= [131, 71]
    given = overlay_frames(
        [gray()] * 2, None, boxes=[[[40, 100, 70, 130], None]], trail_length=2, **common
    )
    first, second = given
    assert (first[99:102, 50] == track_color(0)).all(-1).any() and (first[115, 60] == 90).all()
    np.testing.assert_array_equal(second, gray())
    with pytest.raises(ValueError, match='track 0 has 1 boxes'):
        list(overlay_frames([gray()] * 2, None, boxes=[[None]], **common))
