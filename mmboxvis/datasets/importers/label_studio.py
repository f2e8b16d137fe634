"""Label Studio: regions of type ``videorectangle``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from .box_set import NO_CLASS, Box, BoxSet, Collector, ReadOptions, VideoDraft, enclosing
from .movies import need_size
from .place import Place, read_json, shown, source_files


@dataclass(frozen=True)
class _Key:
    """A key frame: x, y, width, height in percent of the frame, rotation in degrees."""

    frame: int
    values: tuple[float, ...]
    enabled: bool


@dataclass(frozen=True)
class _Region:
    """One object."""

    place: Place
    key: str
    label: str
    frames: int
    keys: tuple[_Key, ...]


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a json export (a list of tasks, one task, or a list of predictions), or a folder.

    An object lives from an enabled key frame to the next key frame, with its box filled in
    linearly, and after its last key to the end of the video if that key is enabled. A disabled
    key shows it in its own frame. A rotated box becomes the upright one around it. Predictions are
    read where there is no annotation, and of several annotations of a task the first that was not
    cancelled.

    Raises:
        AnnotationError: if a file is broken, or the size of a video is not known.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    found: list[tuple[str, list[_Region], Place]] = []
    for path in source_files(source, '.json'):
        for place, name, results in _tasks(read_json(path), Place(path), collector):
            regions = list(_regions(results, collector, place))
            if regions:
                found.append((name, regions, place))
            else:
                collector.note('tasks without video rectangles left out')
    for name, regions, place in found:
        _add_video(name, regions, collector, place, only=len(found) == 1)
    return collector.finish()


def _tasks(
    content: Any, place: Place, collector: Collector
) -> Iterator[tuple[Place, str, list[Any]]]:
    """Place, name of the video and list of results of each task."""
    tasks = content if isinstance(content, list) else [content]
    stem = place.path.stem
    for index, task in enumerate(tasks):
        spot = place.at(f'[{index}]') if isinstance(content, list) else place
        name = stem if len(tasks) == 1 else f'{stem}_{index + 1}'
        if 'result' in spot.table(task, 'a task'):
            yield spot, name, spot.items(task['result'], 'result')
            continue
        answers = _answers(task, spot)
        if not answers:
            collector.note('tasks without annotation and prediction left out')
            continue
        if len(answers) > 1:
            collector.note('further annotations of the same task left out', len(answers) - 1)
        yield (
            spot,
            _video_name(task, spot) or name,
            spot.items(answers[0].get('result'), 'result'),
        )


def _answers(task: dict[str, Any], place: Place) -> list[dict[str, Any]]:
    """Annotations of a task that were not cancelled, else its predictions."""
    if task.get('annotations') is None and task.get('predictions') is None:
        place.fail('annotations (or predictions) must be a list, got none; is it a json export?')
    whole = [
        answer
        for answer in place.items(task.get('annotations') or [], 'annotations')
        if not place.table(answer, 'an annotation').get('was_cancelled')
    ]
    return whole or [
        place.table(answer, 'a prediction')
        for answer in place.items(task.get('predictions') or [], 'predictions')
    ]


def _video_name(task: dict[str, Any], place: Place) -> str | None:
    """Stem of the video file that the task is about, if it says so."""
    data = place.table(task.get('data') or {}, 'data')
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    url = texts.get('video', next(iter(texts.values()), None))
    if url is None:
        return None
    try:
        path = urlsplit(url).path
    except ValueError as error:
        place.fail(f'data, the address of the video {shown(url)}: {error}')
    return PurePosixPath(unquote(path)).stem or None


def _regions(results: list[Any], collector: Collector, place: Place) -> Iterator[_Region]:
    for index, result in enumerate(results):
        spot = place.at(f'result[{index}]')
        kind = spot.table(result, 'the entry').get('type')
        if kind != 'videorectangle':
            collector.note(f'results of type {kind!r} left out')
            continue
        value = spot.table(result.get('value'), 'value')
        labels = spot.items(value.get('labels') or [collector.options.label or NO_CLASS], 'labels')
        if len(labels) > 1:
            collector.note('second and further labels of a region left out', len(labels) - 1)
        keys = _read_keys(spot.items(value.get('sequence'), 'sequence'), spot)
        if not keys:
            collector.note('regions without a key frame left out')
            continue
        frames = value.get('framesCount')
        yield _Region(
            spot,
            str(result.get('id') or f'region {index + 1}'),
            spot.text(labels[0], 'label'),
            keys[-1].frame if frames is None else spot.whole(frames, 'framesCount', 1),
            keys,
        )


def _read_keys(sequence: list[Any], place: Place) -> tuple[_Key, ...]:
    keys: dict[int, _Key] = {}
    for index, entry in enumerate(sequence):
        spot = place.at(f'sequence[{index}]')
        frame = spot.whole(spot.table(entry, 'the entry').get('frame'), 'frame', 1)
        if frame in keys:
            spot.fail(f'frame {frame} has two keys')
        enabled = entry.get('enabled', True)
        if not isinstance(enabled, bool):
            spot.fail(f'enabled must be true or false, got {enabled!r}')
        values = [spot.number(entry.get(name), name) for name in ('x', 'y', 'width', 'height')]
        rotation = spot.number(entry.get('rotation') or 0, 'rotation')
        keys[frame] = _Key(frame, (*values, rotation), enabled)
    return tuple(keys[frame] for frame in sorted(keys))


def _add_video(
    name: str, regions: list[_Region], collector: Collector, place: Place, *, only: bool
) -> None:
    length = max(region.frames for region in regions)
    draft = collector.video(name, range(1, length + 1), place, first_number=1)
    size = need_size(draft, collector.options, place, only=only)
    for region in regions:
        for current, following in zip(region.keys, [*region.keys[1:], None], strict=True):
            _fill(region, current, following, draft, size)


def _fill(
    region: _Region, current: _Key, following: _Key | None, draft: VideoDraft, size: tuple[int, int]
) -> None:
    """Adds boxes from a key up to, and without, the next one, or to the end of the video."""
    stop = len(draft) + 1 if following is None else following.frame
    if not current.enabled:
        stop = current.frame + 1
    box = _upright(current.values, size)
    moves = following is not None and following.values != current.values
    # a key beyond the end is told of by the draft
    for frame in range(current.frame, max(stop, current.frame + 1)):
        if moves and following is not None and frame > current.frame:
            weight = (frame - current.frame) / (following.frame - current.frame)
            pairs = zip(current.values, following.values, strict=True)
            box = _upright(tuple((1 - weight) * a + weight * b for a, b in pairs), size)
        draft.add(region.key, region.label, frame - 1, box, region.place.at(f'frame {frame}'))


def _upright(values: tuple[float, ...], size: tuple[int, int]) -> Box:
    """The upright box in pixels around one that is turned clockwise about its first corner."""
    x, y, width, height = (
        share * side / 100 for share, side in zip(values, (*size, *size), strict=False)
    )
    angle = math.radians(values[4])
    cos, sin = math.cos(angle), math.sin(angle)
    steps = ((0, 0), (width, 0), (0, height), (width, height))
    return enclosing((x + dx * cos - dy * sin, y + dx * sin + dy * cos) for dx, dy in steps)
