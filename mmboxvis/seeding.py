"""Seeds that follow from where a run is, so that nothing has to be remembered between steps."""

from __future__ import annotations

import random

import numpy as np
import torch


def derive_seed(*numbers: int) -> int:
    """Mixes numbers into one seed; another number in any place gives an unrelated seed.

    Args:
        numbers: at least one, each not negative.

    Returns:
        In [0, 2**32).
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def seed_all(seed: int) -> None:
    """Seeds the global generators of Python, numpy and torch, those of GPUs included.

    Args:
        seed: in [0, 2**32).
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
