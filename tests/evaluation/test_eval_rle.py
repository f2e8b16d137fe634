"""Run-lengths: empty, one, many, broken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from mmboxvis.evaluation.functional import run_totals
from mmboxvis.evaluation.functional.rle import compress, mask_areas


def encode(mask: np.ndarray) -> dict:
    return mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))


def test_no_string() -> None:
    totals = run_totals([])
    assert totals.intact.shape == totals.pixels.shape == (0,)
    assert mask_areas([]).shape == (0,)


@pytest.mark.parametrize('value', [0, 1])
@pytest.mark.parametrize('shape', [(1, 1), (3, 5), (720, 1280)])
def test_flat_masks(value: int, shape: tuple[int, int]) -> None:
    totals = run_totals([encode(np.full(shape, value))['counts']])
    assert totals.intact.all()
    assert totals.pixels.tolist() == [shape[0] * shape[1]]


@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), max_size=6),
    density=st.floats(0, 1),
)
@settings(deadline=None, max_examples=60)
def test_totals_are_the_pixels_of_the_image(
    seed: int, shapes: list[tuple[int, int]], density: float
) -> None:
    rng = np.random.default_rng(seed)
    masks = [encode(rng.random(shape) < density) for shape in shapes]
    strings = [m['counts'].decode() if rng.random() < 0.5 else m['counts'] for m in masks]
    totals = run_totals(strings)
    assert totals.intact.all()
    assert totals.pixels.tolist() == [h * w for h, w in shapes]


def test_more_masks_than_pycocotools_takes_at_once() -> None:
    masks = [encode(np.arange(20).reshape(4, 5) < i % 21) for i in range(600)]
    assert mask_areas(masks).tolist() == [i % 21 for i in range(600)]
    totals = run_totals([mask['counts'] for mask in masks])
    assert (totals.pixels == 20).all()


def test_broken_strings_are_told_from_good_ones() -> None:
    good = encode(np.random.default_rng(0).random((60, 80)) < 0.3)['counts'].decode()
    long = encode(np.zeros((60, 80)))['counts'].decode()
    assert len(long) > 1
    broken = ['', long[:-1], good + 'é', good[:5] + ' ' + good[5:], 'oooooooooo1']
    totals = run_totals([good, *broken, good])
    assert totals.intact.tolist() == [True, *[False] * len(broken), True]
    assert totals.pixels.tolist() == [4800, *[0] * len(broken), 4800]


@given(place=st.floats(0, 1, exclude_max=True), code=st.integers(48, 111))
@settings(deadline=None, max_examples=60)
def test_one_wrong_character_changes_the_total(place: float, code: int) -> None:
    good = encode(np.random.default_rng(1).random((30, 40)) < 0.4)['counts'].decode()
    index = int(place * len(good))
    wrong = good[:index] + chr(code) + good[index + 1 :]
    totals = run_totals([wrong])
    assert (totals.pixels[0] == 1200) == (wrong == good)


def test_compress_takes_what_annotations_hold() -> None:
    square = np.zeros((10, 12))
    square[2:6, 3:9] = 1
    expected = encode(square)
    polygon = [[3, 2, 9, 2, 9, 6, 3, 6]]
    column_major = square.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(column_major)) + 1
    runs = np.diff([0, *edges, len(column_major)]).tolist()
    assert compress(polygon, (10, 12)) == expected
    assert compress({'size': [10, 12], 'counts': runs}, (10, 12)) == expected
    assert compress(expected, (10, 12)) == expected
    assert compress([], (10, 12)) is None


@pytest.mark.parametrize('shape', [[[1, 2, 3, 4]], [1, 2, 3, 4, 5, 6], 'abc', {'size': [1, 2]}])
def test_compress_refuses_the_rest(shape: object) -> None:
    with pytest.raises(ValueError, match='polygon'):
        compress(shape, (10, 12))  # type: ignore[arg-type]
