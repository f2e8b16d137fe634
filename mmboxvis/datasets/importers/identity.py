"""From shapes in single images to tracks: which shapes are one object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from .box_set import Box, Collector, OcclusionLevel, VideoDraft, union
from .place import Place
from .rle import join_masks

_NUMBERED = re.compile(r'(.+?)[\s_.:#-]*([0-9]+)')


@dataclass(frozen=True)
class Shape:
    """One shape in one image.

    Attributes:
        label: class, or class and number (``car-1``).
        box: x, y, w, h.
        group: what the file says about its identity, if anything.
        place: where it stands.
        occlusion: level, if known.
        mask: run-lengths ``dict(size, counts)``, if kept.
    """

    label: str
    box: Box
    group: str | None
    place: Place
    occlusion: OcclusionLevel | None = None
    mask: dict[str, Any] | None = None


@dataclass(frozen=True)
class Image:
    """One image and its shapes.

    Attributes:
        place: where it stands.
        file_name: relative to the root of all images.
        size: width and height, if known.
        shapes: in the order of the file.
        number: of the frame in the video file, if the source tells it besides the name.
    """

    place: Place
    file_name: str
    size: tuple[int | None, int | None]
    shapes: tuple[Shape, ...]
    number: int | None = None


def add_images(
    collector: Collector, videos: Mapping[str, Sequence[Image]], *, groups_of_a_label: bool = True
) -> None:
    """Makes videos of images, by the identity that the options ask for.

    Shapes of one object in one image are its parts: box and mask are those of all together.

    Args:
        collector: takes the videos; its options tell the identity.
        videos: name of each video and its images in order.
        groups_of_a_label: whether shapes of a group are one object only if they share the label,
            as in programs that group shapes; else a group is an object, whatever its class.

    Raises:
        AnnotationError: if a shape in a video of several frames has no identity, parts of an
            object differ in their class, or images of one video differ in size.
    """
    identity = collector.options.identity
    if identity == 'none':
        videos = {
            str(PurePosixPath(image.file_name).with_suffix('')): [image]
            for images in videos.values()
            for image in images
        }
    for name, images in videos.items():
        first = images[0]
        for image in images:
            if image.size != first.size:
                image.place.fail(
                    f'is {image.size[0]} x {image.size[1]} pixels, but {first.file_name} of the '
                    f'same video is {first.size[0]} x {first.size[1]}; frames of a video have one '
                    'size. If the images are no video, use --identity none'
                )
        draft = collector.video(
            name,
            _numbers(images),
            first.place,
            size=first.size,
            file_names=[image.file_name for image in images],
            first_number=collector.options.first_frame or 0,
        )
        for position, image in enumerate(images):
            objects = _objects(
                image, identity, alone=len(images) == 1, groups_of_a_label=groups_of_a_label
            )
            _add_image(draft, position, objects, collector)


def _numbers(images: Sequence[Image]) -> list[int] | None:
    """Numbers of the frames of a video, ``None`` if they are not told, or not in this order."""
    told = [image.number for image in images if image.number is not None]
    rising = all(first < second for first, second in pairwise(told))
    return told if rising and len(told) == len(images) else None


def class_names(declared: Iterable[str], identity: str) -> tuple[str, ...]:
    """Names of the classes that a source declares; ``car-1`` is of class ``car`` by ``label``."""
    if identity != 'label':
        return tuple(declared)
    parts = ((name, _NUMBERED.fullmatch(name)) for name in declared)
    return tuple(name if numbered is None else numbered[1] for name, numbered in parts)


def _objects(
    image: Image, identity: str, *, alone: bool, groups_of_a_label: bool
) -> dict[str, list[Shape]]:
    """The shapes of each object, by what tells who it is; labels are those of classes."""
    met: Counter[str] = Counter()
    objects: dict[str, list[Shape]] = {}
    for index, shape in enumerate(image.shapes):
        label, key = shape.label, shape.group
        if identity == 'label':
            label, key = _split_label(shape)
        elif identity == 'order':
            met[label] += 1
            key = f'{label} {met[label]}'
        elif key is not None:
            grouped = groups_of_a_label and not identity.startswith('attribute:')
            key = f'{label} {key}' if grouped else key
        if key is None:
            if not alone:
                shape.place.fail(
                    'nothing tells which object of the video it is; say with --identity what '
                    'does (group_id, label, order, attribute:NAME), or that the images are no '
                    'video (none)'
                )
            key = f'shape {index}'
        objects.setdefault(key, []).append(replace(shape, label=label, group=key))
    return objects


def _add_image(
    draft: VideoDraft, position: int, objects: Mapping[str, Sequence[Shape]], collector: Collector
) -> None:
    """Adds the objects of one image."""
    for key, shapes in objects.items():
        # a part without area, such as a slip of the mouse, would stretch the box of the others
        parts = [shape for shape in shapes if draft.has_area(shape.box, shape.place)]
        if not parts:
            continue
        for shape in parts[1:]:
            if shape.label != parts[0].label:
                shape.place.fail(
                    f'object {key!r} is {shape.label!r} here, but {parts[0].label!r} in the same '
                    'image; parts of an object have one class. If these are two objects, give '
                    'each a number or text of its own'
                )
        if len(parts) > 1:
            collector.note('shapes joined to one object with others of its image', len(parts) - 1)
        whole = reduce(_join, parts)
        draft.add(
            key,
            whole.label,
            position,
            whole.box,
            whole.place,
            occlusion=whole.occlusion,
            mask=whole.mask,
        )


def _join(part: Shape, other: Shape) -> Shape:
    masks = [shape.mask for shape in (part, other) if shape.mask is not None]
    return replace(other, box=union(part.box, other.box), mask=join_masks(masks) if masks else None)


def _split_label(shape: Shape) -> tuple[str, str]:
    """``car-1`` is object ``car-1`` of class ``car``."""
    parts = _NUMBERED.fullmatch(shape.label)
    if parts is None:
        shape.place.fail(f'label {shape.label!r} has no number at its end to tell the object by')
    return parts[1], shape.label
