"""Tracks as results in YouTube-VIS layout, to be scored against :func:`~.ytvis.to_ytvis`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .box_set import BoxSet


def write(boxes: BoxSet) -> Iterator[tuple[str, str]]:
    """Yields one json: an entry a track, with ``segmentations`` where masks are kept.

    Videos and categories have the numbers that they have in an annotation file of the same videos
    and classes. A track without a score counts as sure.
    """
    number_of = {name: number for number, name in enumerate(boxes.classes, start=1)}
    entries: list[dict[str, Any]] = []
    for video_id, video in enumerate(boxes.videos, start=1):
        frames = range(len(video.numbers))
        for track in video.tracks:
            shapes: dict[str, Any] = dict(bboxes=[_rounded(track.boxes.get(t)) for t in frames])
            if track.masks:
                shapes['segmentations'] = [track.masks.get(t) for t in frames]
            entries.append(
                dict(
                    video_id=video_id,
                    category_id=number_of[track.label],
                    score=1.0 if track.score is None else track.score,
                    **shapes,
                )
            )
    yield 'results.json', json.dumps(entries)


def _rounded(box: tuple[float, ...] | None) -> list[float] | None:
    return None if box is None else [round(value, 4) for value in box]
