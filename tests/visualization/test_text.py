"""Captions as coverage masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.visualization import _text
from mmboxvis.visualization._text import fit_text, text_mask


def test_nothing_to_write() -> None:
    assert text_mask('', 14).shape[1] == 1
    assert fit_text('', 14, 10) == ''


@pytest.mark.parametrize('character', ['\n', '\t', '\x07', '\u2028', '\ud800'])
def test_what_cannot_be_drawn_is_a_space(character: str) -> None:
    mask = text_mask(f'traffic{character}light', 14)
    np.testing.assert_array_equal(mask, text_mask('traffic light', 14))
    assert fit_text(f'traffic{character}light', 14, 500) == 'traffic light'


@settings(deadline=None, max_examples=60)
@given(text=st.text('AVTyWfil. mж猫', max_size=30), width=st.integers(12, 200))
def test_text_is_cut_as_late_as_it_can_be(text: str, width: int) -> None:
    cuts = [text, *(text[:k].rstrip() + '…' for k in range(len(text) - 1, 0, -1))]
    wanted = next((cut for cut in cuts if text_mask(cut, 14).shape[1] <= width), '…')
    assert fit_text(text, 14, width) == wanted


def test_a_long_text_is_not_drawn_to_measure_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_text, 'text_mask', lambda *_: pytest.fail('was drawn'))
    measured = []
    width = _text._width
    monkeypatch.setattr(_text, '_width', lambda *a: measured.append(a) or width(*a))
    short = fit_text('x' * 3000, 14, 100)
    assert 5 < len(short) < 20 and len(measured) < 20
