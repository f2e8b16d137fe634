from __future__ import annotations

from pathlib import Path

import pytest

from tests.visualization.sample import make_data


@pytest.fixture
def data(tmp_path: Path) -> dict:
    return make_data(tmp_path)
