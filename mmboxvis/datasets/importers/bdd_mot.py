"""BDD100K MOT and MOTS, in Scalabel's layout."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .box_set import Box, BoxSet, Collector, ReadOptions, VideoDraft, enclosing, occlusion_level
from .place import Place, read_json, shown, source_files
from .rle import read_rle, rle_box

IGNORED = frozenset({'other person', 'other vehicle', 'trailer'})
"""Categories that BDD100K leaves out of the evaluation."""

_CURVE_STEPS = 16


@dataclass(frozen=True)
class _Frame:
    """An entry of the list of frames; without an index of its own it has its place in the list."""

    place: Place
    index: int
    numbered: bool
    name: str
    folder: str
    size: tuple[int | None, int | None]
    labels: list[Any]


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a json (a list of frames, or an object with it), or all of a folder.

    ``x2`` and ``y2`` are the last pixel of a box, so it is ``x2 - x1 + 1`` wide, as in Scalabel. A
    label without ``box2d`` gets the box around its polygons or its mask. Crowds and ignored
    categories are left out. Cameras that share a video name become videos of their own.

    Raises:
        AnnotationError: if a file is broken.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    classes: list[str] = []
    videos: dict[str, list[_Frame]] = {}
    for path in source_files(source, '.json'):
        place = Place(path)
        content = read_json(path)
        if isinstance(content, dict):
            classes += _declared(content, place)
            content = content.get('frames')
        for index, entry in enumerate(place.items(content, 'the list of frames')):
            spot = place.at(f'frames[{index}]')
            name, frame = _read_frame(spot.table(entry, 'the entry'), index, spot)
            videos.setdefault(name or path.stem, []).append(frame)
    for name, frames in videos.items():
        for part, chosen in _by_camera(name, frames).items():
            _add_video(part, chosen, collector)
    return collector.finish(tuple(name for name in classes if name not in IGNORED))


def _declared(content: dict[str, Any], place: Place) -> list[str]:
    config = place.table(content.get('config') or {}, 'config')
    found = place.items(config.get('categories') or [], 'categories')
    return [place.text(place.table(c, 'a category').get('name'), 'name') for c in found]


def _read_frame(entry: dict[str, Any], order: int, place: Place) -> tuple[str | None, _Frame]:
    """Name of the video, and the frame; older files spell some fields differently."""
    video = entry.get('videoName', entry.get('video_name'))
    indices = (entry.get(key) for key in ('frameIndex', 'frame_index', 'index'))
    index = next((value for value in indices if value is not None), None)
    size = place.table(entry.get('size') or {}, 'size')
    width, height = (
        None if size.get(side) is None else place.whole(size[side], side, 1)
        for side in ('width', 'height')
    )
    url = entry.get('url')
    frame = _Frame(
        place=place,
        index=place.whole(order if index is None else index, 'frameIndex'),
        numbered=index is not None,
        name=place.relative_path(entry.get('name'), 'name'),
        folder=str(PurePosixPath(url).parent) if isinstance(url, str) else '',
        size=(width, height),
        labels=place.items(entry.get('labels') or [], 'labels'),
    )
    return (None if video is None else place.text(video, 'videoName')), frame


def _by_camera(name: str, frames: Sequence[_Frame]) -> dict[str, list[_Frame]]:
    """The frames of each camera, told apart by folder where an index repeats."""
    if len({frame.index for frame in frames}) == len(frames):
        return {name: list(frames)}
    cameras: dict[str, list[_Frame]] = {}
    for frame in frames:
        cameras.setdefault(frame.folder, []).append(frame)
    for found in cameras.values():
        seen: dict[int, _Frame] = {}
        for frame in found:
            if frame.index in seen:
                frame.place.fail(
                    f'frameIndex {frame.index} of video {name!r} is also that of '
                    f'{seen[frame.index].place.where}'
                )
            seen[frame.index] = frame
    common = set.intersection(*(set(PurePosixPath(folder).parts) for folder in cameras))
    return {
        '-'.join(
            [name, *(part for part in PurePosixPath(folder).parts if part not in common)]
        ): found
        for folder, found in cameras.items()
    }


def _add_video(name: str, frames: list[_Frame], collector: Collector) -> None:
    frames = sorted(frames, key=lambda frame: frame.index)
    place = frames[0].place
    sizes = {frame.size for frame in frames} - {(None, None)}
    if len(sizes) > 1:
        place.fail(f'frames of video {name!r} have different sizes {sorted(sizes, key=str)[:3]}')
    names = [frame.name for frame in frames]
    if len(set(names)) == len(names):
        names = [f'{name}/{file_name}' for file_name in names]
    else:
        collector.note('videos with images named by number, as their own names repeat')
        names = [f'{name}/{name}-{frame.index + 1:07d}.jpg' for frame in frames]
    draft = collector.video(
        name,
        [frame.index for frame in frames],
        place,
        size=sizes.pop() if sizes else (None, None),
        file_names=names,
        numbered=all(frame.numbered for frame in frames),
    )
    for position, frame in enumerate(frames):
        for index, label in enumerate(frame.labels):
            spot = frame.place.at(f'labels[{index}]')
            _add_label(spot.table(label, 'the entry'), position, draft, collector, spot)


def _add_label(
    label: dict[str, Any], position: int, draft: VideoDraft, collector: Collector, place: Place
) -> None:
    category = place.text(label.get('category'), 'category')
    attributes = {
        key.lower(): value
        for key, value in place.table(label.get('attributes') or {}, 'attributes').items()
    }
    crowd = place.flag(attributes.get('crowd'), 'crowd')
    if category in IGNORED or crowd:
        collector.note('crowds and ignored categories left out')
        return
    key = label.get('id')
    if not isinstance(key, (str, int)) or isinstance(key, bool):
        place.fail(f'id must be text or a whole number, got {key!r}')
    box = _read_box(label, place)
    if box is None:
        collector.note('labels without box2d, poly2d and rle left out')
        return
    draft.add(
        key,
        category,
        position,
        box,
        place,
        occlusion=occlusion_level(place.flag(attributes.get('occluded'), 'occluded')),
    )


def _read_box(label: dict[str, Any], place: Place) -> Box | None:
    if label.get('box2d') is not None:
        edges = place.table(label['box2d'], 'box2d')
        x1, y1, x2, y2 = (place.number(edges.get(k), k) for k in ('x1', 'y1', 'x2', 'y2'))
        return x1, y1, x2 - x1 + 1, y2 - y1 + 1
    if label.get('rle') is not None:
        rle = place.table(label['rle'], 'rle')
        return rle_box(read_rle(rle.get('counts'), rle.get('size'), place.at('rle')))
    if label.get('poly2d') is not None:
        points: list[tuple[float, float]] = []
        for index, polygon in enumerate(place.items(label['poly2d'], 'poly2d')):
            points += _outline(polygon, place.at(f'poly2d[{index}]'))
        return enclosing(points) if points else None
    return None


def _outline(polygon: Any, place: Place) -> list[tuple[float, float]]:
    """Points of an outline; two control points (C) and the next point make a cubic curve."""
    entry = place.table(polygon, 'the entry')
    vertices = [
        (place.number(pair[0], 'x'), place.number(pair[1], 'y'))
        for vertex in place.items(entry.get('vertices'), 'vertices')
        for pair in [place.items(vertex, 'a vertex', 2)]
    ]
    types = entry.get('types') or 'L' * len(vertices)
    if not isinstance(types, str) or not re.fullmatch('(L[LC]*)?', types):
        place.fail(f'types must be text of L and C that begins with L, got {shown(types)}')
    if len(types) != len(vertices):
        place.fail(f'types {shown(types)} must have a letter for each of {len(vertices)} vertices')
    points: list[tuple[float, float]] = []
    index = 0
    while index < len(vertices):
        if types[index] == 'L':
            points.append(vertices[index])
            index += 1
            continue
        if types[index : index + 2] != 'CC':
            place.fail('a curve needs two control points (CC)')
        end = vertices[(index + 2) % len(vertices)]
        points += _curve(points[-1], vertices[index], vertices[index + 1], end)
        index += 2
    return points


def _curve(*controls: tuple[float, float]) -> list[tuple[float, float]]:
    """Points on the cubic Bezier curve of four control points."""
    points = []
    for step in range(1, _CURVE_STEPS + 1):
        t = step / _CURVE_STEPS
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        pairs = list(zip(weights, controls, strict=True))
        points.append((sum(w * x for w, (x, _) in pairs), sum(w * y for w, (_, y) in pairs)))
    return points
