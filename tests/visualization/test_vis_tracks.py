from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from mmboxvis.visualization import keep_best_of_duplicates
from mmboxvis.visualization.tracks import decode_mask, resize_mask, to_rle


def encode(mask: np.ndarray) -> dict:
    return mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))


def test_no_track() -> None:
    assert keep_best_of_duplicates([], []) == []


def test_a_track_that_is_never_seen() -> None:
    assert keep_best_of_duplicates([[None, None], [None, None]], [0.2, 0.5]) == [1, 0]


def test_best_scored_of_duplicates_is_kept() -> None:
    masks = np.zeros((4, 2, 20, 20), bool)
    masks[:2, :, :10] = True  # one query, two classes
    masks[2, :, :10] = True
    masks[2, 0, 0, 0] = False  # nearly the same
    masks[3, :, 12:] = True
    rles = [[encode(m) for m in track] for track in masks]
    assert keep_best_of_duplicates(rles, [0.4, 0.9, 0.5, 0.3]) == [1, 3]
    assert keep_best_of_duplicates(rles, [0.4, 0.9, 0.5, 0.3], iou_thr=1.0) == [1, 2, 0, 3]


def test_equal_masks_at_different_times_are_no_duplicates() -> None:
    rle = encode(np.ones((4, 4), bool))
    assert keep_best_of_duplicates([[rle, None], [None, rle]], [0.5, 0.6]) == [1, 0]


def test_every_form_of_a_segmentation_is_read() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:6] = True
    plain = {'size': [6, 8], 'counts': [13, 3, 3, 3, 3, 3, 3, 3, 14]}
    compressed = {**encode(mask), 'counts': encode(mask)['counts'].decode()}
    polygon = [[2, 1, 6, 1, 6, 4, 2, 4]]
    for form in (plain, compressed, polygon):
        np.testing.assert_array_equal(decode_mask(form, (6, 8)), mask)
    assert to_rle(None, (6, 8)) is None
    assert to_rle([], (6, 8)) is None
    with pytest.raises(ValueError, match='run-length'):
        to_rle('abc', (6, 8))


def test_resized_mask_keeps_its_place() -> None:
    mask = np.zeros((10, 20), bool)
    mask[2:6, 5:15] = True
    larger = resize_mask(mask, (40, 80))
    assert larger.dtype == bool
    assert larger[9:23, 21:59].all()
    assert not larger[:7].any() and not larger[25:].any()
    np.testing.assert_array_equal(resize_mask(larger, (10, 20)), mask)
