"""labelme: one json an image."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .box_set import Box, BoxSet, Collector, ReadOptions, enclosing, from_corners
from .identity import Image, Shape, add_images
from .place import Place, read_json, source_files

NO_OBJECT = frozenset({'__ignore__', '_background_'})
"""Labels that labelme reserves."""


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a json, or all of a folder: each folder with some is a video, in the order of names.

    Polygons, rectangles, circles and masks give boxes. Which shapes are one object is told by
    ``options.identity``. Pixels in the file (``imageData``) are not looked at.

    Raises:
        AnnotationError: if a file is broken, or shapes have no identity.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    root = source if source.is_dir() else source.parent
    videos: dict[str, list[Image]] = {}
    for path in source_files(source, '.json'):
        folder = path.parent.relative_to(root).as_posix()
        name = folder if folder != '.' else source.absolute().with_suffix('').name
        videos.setdefault(name, []).append(_read_image(path, folder, options, collector))
    add_images(collector, videos)
    return collector.finish()


def _read_image(path: Path, folder: str, options: ReadOptions, collector: Collector) -> Image:
    place = Place(path)
    content = place.table(read_json(path), 'the file')
    name = place.relative_path(content.get('imagePath'), 'imagePath')
    shapes = []
    for index, entry in enumerate(place.items(content.get('shapes'), 'shapes')):
        spot = place.at(f'shapes[{index}]')
        shape = _read_shape(spot.table(entry, 'the entry'), options, collector, spot)
        if shape is not None:
            shapes.append(shape)
    return Image(
        place=place,
        file_name=name if folder == '.' else f'{folder}/{name}',
        size=(
            place.whole(content.get('imageWidth'), 'imageWidth', 1),
            place.whole(content.get('imageHeight'), 'imageHeight', 1),
        ),
        shapes=tuple(shapes),
    )


def _read_shape(
    entry: dict[str, Any], options: ReadOptions, collector: Collector, place: Place
) -> Shape | None:
    label = place.text(entry.get('label'), 'label')
    if label in NO_OBJECT:
        collector.note(f'shapes labelled {label} left out')
        return None
    kind = entry.get('shape_type') or 'polygon'
    points = [
        (place.number(point[0], 'x'), place.number(point[1], 'y'))
        for pair in place.items(entry.get('points'), 'points')
        for point in [place.items(pair, 'a point', 2)]
    ]
    box = _around(kind, points, place)
    if box is None:
        collector.note(f'shapes of kind {kind} left out, which bound no object')
        return None
    group = entry.get('group_id')
    if group is not None:
        group = str(place.whole(group, 'group_id', -(10**9)))
    name = options.identity.partition(':')[2]
    if name:  # attribute:NAME is a flag or field of the shape
        group = entry.get(name)
        if group is not None and not isinstance(group, (str, int)):
            place.fail(f'{name} must be text or a whole number to tell objects by')
        group = None if group in (None, '') else str(group)
    return Shape(label, box, group, place)


def _around(kind: object, points: list[tuple[float, float]], place: Place) -> Box | None:
    """The box around a shape; ``None`` for kinds that bound nothing."""
    if kind == 'polygon':
        return enclosing(points) if points else place.fail('a polygon without points')
    if kind in ('rectangle', 'circle', 'mask'):
        if len(points) != 2:
            place.fail(f'a {kind} has {len(points)} points, expected 2')
        if kind == 'circle':
            (x, y), rim = points
            radius = math.dist((x, y), rim)
            return from_corners(x - radius, y - radius, x + radius, y + radius)
        left, top, width, height = enclosing(points)
        # the corners of a mask are its first and last pixel
        return (left, top, width + 1, height + 1) if kind == 'mask' else (left, top, width, height)
    if kind in ('line', 'linestrip', 'point', 'points'):
        return None
    return place.fail(f'unknown shape_type {kind!r}')
