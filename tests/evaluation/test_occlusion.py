"""Occlusion scores by hand."""

from __future__ import annotations

import math

import pytest

from mmboxvis.evaluation.functional import occlusion_score

NO, SLIGHT, SEVERE = 'no_occlusion', 'slight_occlusion', 'severe_occlusion'


@pytest.mark.parametrize('levels', [[], [None], [None, None]])
def test_unknown_is_nan(levels: list) -> None:
    assert math.isnan(occlusion_score(levels))


@pytest.mark.parametrize(
    ('levels', 'score'),
    [
        ([NO], 0.0),
        ([SEVERE], 0.75),
        ([NO, SEVERE], 0.75),
        # the higher two of three
        ([SEVERE, NO, SLIGHT], 0.5),
        # frames where it is absent do not count
        ([None, SLIGHT, None, NO, None], 0.25),
        ([SLIGHT, NO, SEVERE, NO, None], 0.5),
    ],
)
def test_mean_of_the_higher_half(levels: list, score: float) -> None:
    assert occlusion_score(levels) == score


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="unknown occlusion level 'hidden'"):
        occlusion_score([NO, 'hidden'])
