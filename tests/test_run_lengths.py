"""Masks as files hold them: none that makes pycocotools hang, crash or make something up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as mask_api

from mmboxvis.run_lengths import check_mask, checked_polygon, compress, decode, run_totals
from tests.reference.run_lengths import runs_of

RUNS = [5, -3, 3, 8, 3]
SIZE = (4, 4)
NAN, INF = float('nan'), float('inf')


def encode_runs(runs: list[int]) -> str:
    """The string of any runs, negative ones too, as pycocotools writes it."""
    text = ''
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            digit, value = value & 31, value >> 5
            more = value != (-1 if digit & 16 else 0)
            text += chr(48 + digit + 32 * more)
            if not more:
                break
    return text


def test_a_negative_run_is_no_mask() -> None:
    text = encode_runs(RUNS)
    assert runs_of(text) == RUNS and sum(RUNS) == 16
    totals = run_totals([text])
    assert not totals.intact[0] and totals.pixels[0] == 0
    with pytest.raises(ValueError, match='broken'):
        decode(dict(size=[4, 4], counts=text), SIZE)


@given(st.lists(st.lists(st.integers(-(2**29), 2**29), min_size=1, max_size=12), max_size=5))
@settings(deadline=None, max_examples=60)
def test_totals_are_those_of_reading_one_by_one(many: list[list[int]]) -> None:
    texts = [encode_runs(runs) for runs in many]
    assert [runs_of(text) for text in texts] == many
    totals = run_totals(texts)
    assert totals.intact.tolist() == [min(runs) >= 0 for runs in many]
    assert totals.pixels.tolist() == [sum(runs) if min(runs) >= 0 else 0 for runs in many]


@given(st.text(alphabet=[chr(48 + code) for code in range(64)], min_size=1, max_size=30))
@settings(deadline=None, max_examples=100)
def test_any_string_is_refused_or_decoded_as_it_says(text: str) -> None:
    totals = run_totals([text])
    if not totals.intact[0]:
        return
    runs = runs_of(text)
    assert min(runs) >= 0 and sum(runs) == totals.pixels[0]
    if 0 < totals.pixels[0] < 5000:
        mask = decode(dict(size=[int(totals.pixels[0]), 1], counts=text), SIZE)
        assert mask is not None and mask.sum() == sum(runs[1::2])


@pytest.mark.parametrize(
    'broken', ['', 'P', 'PPPPP', 'PPPPPP', ' ', 'é', '0 0', 'oooooooo0', 'PPPPPP2', 'PPPPPPL']
)
@pytest.mark.parametrize('good', ['`0', 'PPPPPP0', 'PPPPP2', '04'])
def test_a_broken_string_leaves_its_neighbours_alone(broken: str, good: str) -> None:
    totals = run_totals([broken, good, broken, broken, good])
    assert totals.intact.tolist() == [False, True, False, False, True]
    assert totals.pixels[1] == totals.pixels[4] == sum(runs_of(good))


def test_good_masks() -> None:
    full = mask_api.encode(np.asfortranarray(np.ones(SIZE, np.uint8)))
    assert decode([], SIZE) is None
    for entry in (full, dict(size=[4, 4], counts=[0, 16]), [[0, 0, 4, 0, 4, 4, 0, 4]]):
        assert (decode(entry, SIZE) == 1).all()


@pytest.mark.parametrize(
    ('entry', 'message'),
    [
        ([[NAN, 0, 4, 0, 4, 4]], 'coordinates'),
        ([[INF, 0, 4, 0, 4, 4]], 'coordinates'),
        ([[1e9, 0, 4, 0, 4, 4]], 'coordinates'),
        ([[True, False, True, True, False, True]], 'coordinates'),
        ([[None, 0, 4, 0, 4, 4]], 'coordinates'),
        ([['0', '0', '4', '0', '4', '4']], 'coordinates'),
        ([[10**400, 0, 4, 0, 4, 4]], 'coordinates'),
        ([[[0, 0], [4, 0], [4, 4], [0, 4], [1, 1], [2, 2]]], 'coordinates'),
        ([[0, 0, 9e5, 9e5] * 50], 'outline'),
        ([[0, 0, 4, 0, 4]], 'polygon'),
        ([[0, 0, 4, 0]], 'polygon'),
        ([dict(size=[4, 4], counts='04')], 'polygon'),
        ([5], 'polygon'),
        ('text', 'expected null'),
        (7, 'expected null'),
        (dict(size=[4, 4]), 'expected null'),
        (dict(size=[4, 4], counts=None), 'text or a list'),
        (dict(size=[4, 4], counts=''), 'broken'),
        (dict(size=[4, 4], counts='P'), 'broken'),
        (dict(size=[4, 4], counts='é'), 'broken'),
        (dict(size=[4, 4], counts='1'), 'covers 1 of 16'),
        (dict(size=[4, 4], counts=[4.5, 11.5]), 'whole numbers'),
        (dict(size=[4, 4], counts=['4', '12']), 'whole numbers'),
        (dict(size=[4, 4], counts=[-4, 20]), 'whole numbers'),
        (dict(size=[4, 4], counts=[2**80]), 'whole numbers'),
        (dict(size=[4, 4], counts=[4]), 'covers 4 of 16'),
        # in 64 bits their sum is 16
        (dict(size=[4, 4], counts=[*[2**62] * 3, 2**62 + 16]), f'covers {2**64 + 16} of 16'),
        (dict(size=[4, 4], counts=[]), 'whole numbers'),
        (dict(size=[10**6, 10**6], counts='0'), "'size'"),
        (dict(size=[60_000, 60_000], counts='0'), "'size'"),
        (dict(size=[-4, -4], counts='`0'), "'size'"),
        (dict(size=[4.0, 4.0], counts='`0'), "'size'"),
        (dict(size=[4], counts='`0'), "'size'"),
        (dict(size=4, counts='`0'), "'size'"),
        (dict(size='44', counts=[16]), "'size'"),
    ],
)
def test_what_is_no_mask_is_named(entry: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(entry, SIZE)  # type: ignore[arg-type]
    if isinstance(entry, dict) and isinstance(entry.get('counts'), str) and message != "'size'":
        check_mask(entry)  # leaves strings to run_totals
    else:
        with pytest.raises(ValueError, match=message):
            check_mask(entry)


CORNER = st.one_of(
    st.floats(-2e6, 2e6), st.integers(-20, 20), st.sampled_from([NAN, INF, 10**400, True, '1'])
)


@settings(deadline=None, max_examples=300)
@given(st.lists(CORNER, min_size=6, max_size=12).filter(lambda values: len(values) % 2 == 0))
def test_polygons_are_judged_by_corners_and_outline(values: list[Any]) -> None:
    numbers = all(isinstance(v, int | float) and abs(v) <= 1e6 for v in values)
    good = numbers and not all(isinstance(v, bool) for v in values)
    if good:
        x, y = values[::2], values[1::2]
        length = sum(max(abs(x[i] - x[i - 1]), abs(y[i] - y[i - 1])) for i in range(len(x)))
        good = length <= 1e6
    if good:
        assert checked_polygon(values) is values
    else:
        with pytest.raises(ValueError, match='polygon'):
            checked_polygon(values)


def test_compressed_strings_pass_compress_unread() -> None:
    assert compress(dict(size=[4, 4], counts='x'), SIZE) == dict(size=[4, 4], counts='x')
