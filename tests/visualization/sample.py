"""A small data set to draw."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_utils

CATEGORIES = [{'id': 3, 'name': 'cat'}, {'id': 7, 'name': 'dog'}]
CLASS_NAMES = {3: 'cat', 7: 'dog'}
SIZE, NUM_FRAMES = (48, 64), 5


def mask_rle(x: int, y: int, side: int = 14) -> dict:
    mask = np.zeros(SIZE, np.uint8, order='F')
    mask[y : y + side, x : x + side] = 1
    rle = mask_utils.encode(mask)
    return {'size': list(rle['size']), 'counts': rle['counts'].decode()}


def track(video_id: int, category: int, x: int, **extra: object) -> dict:
    """An object that moves to the right and is not seen in frame 2."""
    masks = [None if t == 2 else mask_rle(x + 2 * t, 10) for t in range(NUM_FRAMES)]
    boxes = [None if m is None else mask_utils.toBbox(m).tolist() for m in masks]
    return dict(video_id=video_id, category_id=category, segmentations=masks, bboxes=boxes, **extra)


def make_data(tmp_path: Path) -> dict:
    """Two videos of grey frames in a folder, annotated and predicted; the second has no object."""
    videos = []
    for video_id, name in ((1, 'first'), (2, 'second')):
        names = [f'{name}/{t:05d}.png' for t in range(NUM_FRAMES)]
        for file_name in names:
            path = tmp_path / 'images' / file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.full((*SIZE, 3), 60, np.uint8))
        size = dict(height=SIZE[0], width=SIZE[1], length=NUM_FRAMES)
        videos.append(dict(id=video_id, file_names=names, **size))
    common = dict(videos=videos, categories=CATEGORIES)
    annotations = [track(1, 3, 2, id=1), track(1, 7, 30, id=2)]
    only_boxes = [{k: v for k, v in a.items() if k != 'segmentations'} for a in annotations]
    results = [
        {k: v for k, v in track(1, 7, 30, score=0.9).items() if k != 'bboxes'},
        {k: v for k, v in track(1, 3, 30, score=0.6).items() if k != 'bboxes'},  # same masks
        {k: v for k, v in track(1, 3, 2, score=0.5).items() if k != 'bboxes'},
        {k: v for k, v in track(1, 3, 15, score=0.1).items() if k != 'bboxes'},
    ]
    return dict(
        root=tmp_path / 'images',
        boxes=dict(**common, annotations=only_boxes),
        instances=dict(**common, annotations=annotations),
        results=results,
        out=tmp_path / 'out',
    )


def links_to(root: Path, folder: Path) -> list[str]:
    """Makes ``folder`` with a link to each video's folder; returns the names of the links."""
    folder.mkdir()
    for path in root.iterdir():
        (folder / path.name).symlink_to(path)
    return sorted(path.name for path in folder.iterdir())


def has_color(picture: np.ndarray, color: tuple) -> bool:
    return bool((picture == color).all(-1).any())
