from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from mmboxvis.seeding import seed_all


def draws() -> tuple[float, float, float]:
    return random.random(), np.random.rand(), float(torch.rand(()))


def test_seed_all_seeds_all_three_generators() -> None:
    seed_all(5)
    first, second = draws(), draws()
    assert all(a != b for a, b in zip(first, second))
    seed_all(5)
    assert (draws(), draws()) == (first, second)


@pytest.mark.parametrize('_', range(2))
def test_tests_draw_the_same_whatever_ran_before(_: int) -> None:
    found = draws()
    seed_all(0)
    assert found == draws()
