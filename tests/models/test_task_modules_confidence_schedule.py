from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmboxvis.models.task_modules import ConfidenceSchedule
from mmboxvis.registry import TASK_UTILS

PROGRESS = st.floats(0, 1)


def test_ends_of_each_mode() -> None:
    rising, falling = ConfidenceSchedule('rising'), ConfidenceSchedule('falling')
    assert rising(0) == falling(1) == 0.5
    assert rising(1) == falling(0) == pytest.approx(0.8807970779778823)
    assert ConfidenceSchedule('constant', 0.7)(0.3) == 0.7


def test_default_is_the_released_one() -> None:
    assert ConfidenceSchedule()(0.25) == pytest.approx(0.6224593312018546)


@settings(deadline=None, max_examples=50)
@given(PROGRESS, PROGRESS)
def test_modes_are_monotone_mirrors(first: float, second: float) -> None:
    rising, falling = ConfidenceSchedule('rising'), ConfidenceSchedule('falling')
    low, high = sorted((first, second))
    assert rising(low) <= rising(high)
    assert falling(low) >= falling(high)
    assert falling(first) == pytest.approx(rising(1 - first))


def test_built_from_a_config() -> None:
    schedule = TASK_UTILS.build(dict(type='ConfidenceSchedule', mode='constant', value=0.4))
    assert schedule(1.0) == 0.4
    assert repr(schedule) == "ConfidenceSchedule(mode='constant', value=0.4)"


@pytest.mark.parametrize('kwargs', [dict(mode='up'), dict(mode='constant', value=1.5)])
def test_bad_arguments_are_refused(kwargs: dict) -> None:
    with pytest.raises(ValueError, match=next(k for k in ('value', 'mode') if k in kwargs)):
        ConfidenceSchedule(**kwargs)


@pytest.mark.parametrize('progress', [-0.1, 1.1, float('nan')])
def test_progress_outside_training_is_refused(progress: float) -> None:
    with pytest.raises(ValueError, match='progress'):
        ConfidenceSchedule()(progress)
