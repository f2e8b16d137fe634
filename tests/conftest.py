"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from mmboxvis.seeding import seed_all

ROOT = Path(__file__).resolve().parents[1]

# the same examples every time: what fails once fails again
settings.register_profile('fixed', derandomize=True)
settings.load_profile('fixed')


def _folder(variable: str, default: str, what: str) -> Path:
    folder = Path(os.environ.get(variable, ROOT.parent / 'shared' / default))
    if not folder.is_dir():
        pytest.skip(f'{what} not found at {folder}; set {variable} to its folder')
    return folder


@pytest.fixture(scope='session')
def golden() -> Path:
    """Folder with inputs and outputs of the released program."""
    return _folder('MMBOXVIS_GOLDEN', 'golden', 'golden numbers')


@pytest.fixture(scope='session')
def real_data() -> Path:
    """Folder with davis_mini and coco_mini."""
    return _folder('MMBOXVIS_REAL_DATA', 'data', 'small real data')


@pytest.fixture(autouse=True)
def _seed() -> None:
    seed_all(0)
