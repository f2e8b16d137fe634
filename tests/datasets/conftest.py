"""A tiny set of two videos, and a way to spoil it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SIZE = (40, 60)


@pytest.fixture(scope='session')
def tiny_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('tiny') / 'images'
    rng = np.random.default_rng(0)
    for video, length in (('walk', 5), ('run', 1)):
        (root / video).mkdir(parents=True)
        for frame in range(length):
            image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
            cv2.imwrite(str(root / video / f'{frame}.png'), image)
    return root


@pytest.fixture
def tiny_json() -> dict[str, Any]:
    """Video 1 has a person in frames 1 to 3 and a dog in all; video 2 has a dog."""
    height, width = SIZE
    videos = [
        dict(id=i, name=name, width=width, height=height, length=n,
             file_names=[f'{name}/{k}.png' for k in range(n)])
        for i, name, n in ((1, 'walk', 5), (2, 'run', 1))
    ]  # fmt: skip
    seen = [[10 + k, 5, 20, 30] for k in range(5)]
    annotations = [
        dict(id=7, video_id=1, category_id=1, iscrowd=0, bboxes=[None, *seen[1:4], None]),
        dict(id=0, video_id=1, category_id=5, iscrowd=0, bboxes=seen),
        dict(id=3, video_id=2, category_id=5, iscrowd=0, bboxes=[[0, 0, 60, 40]]),
    ]
    categories = [dict(id=5, name='dog'), dict(id=1, name='person')]
    return copy.deepcopy(dict(videos=videos, categories=categories, annotations=annotations))


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[[Any], str]:
    def write(content: Any) -> str:
        path = tmp_path / 'annotations.json'
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write
