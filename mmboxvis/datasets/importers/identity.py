"""From shapes in single images to tracks: which shapes are one object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from .box_set import Box, Collector, OcclusionLevel, VideoDraft, union
from .place import Place
from .rle import join_masks


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
        number: of the frame in the video file, if the source tells; else it counts from 0.
    """

    place: Place
    file_name: str
    size: tuple[int | None, int | None]
    shapes: tuple[Shape, ...]
    number: int | None = None


def add_images(collector: Collector, videos: Mapping[str, Sequence[Image]]) -> None:
    """Makes videos of images, by the identity that the options ask for.

    Shapes of one object in one image are its parts: box and mask are those of all together.

    Args:
        collector: takes the videos; its options tell the identity.
        videos: name of each video and its images in order.

    Raises:
        AnnotationError: if a shape in a video of several frames has no identity, or images of one
            video differ in size.
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
            [i if image.number is None else image.number for i, image in enumerate(images)],
            first.place,
            size=first.size,
            file_names=[image.file_name for image in images],
        )
        for position, image in enumerate(images):
            _add_image(draft, position, image, identity, alone=len(images) == 1)


def _add_image(
    draft: VideoDraft, position: int, image: Image, identity: str, *, alone: bool
) -> None:
    met: Counter[str] = Counter()
    objects: dict[str, Shape] = {}
    for index, shape in enumerate(image.shapes):
        label, key = shape.label, shape.group
        if identity == 'label':
            label, key = _split_label(shape)
        elif identity == 'order':
            met[label] += 1
            key = f'{label} {met[label]}'
        elif key is not None:
            key = f'{label} {key}' if identity == 'group_id' else key
        if key is None:
            if not alone:
                shape.place.fail(
                    'nothing tells which object of the video it is; say with --identity what '
                    'does (group_id, label, order, attribute:NAME), or that the images are no '
                    'video (none)'
                )
            key = f'shape {index}'
        part = objects.get(key)
        whole = shape if part is None else _join(part, shape)
        objects[key] = replace(whole, label=label, group=key)
    for key, shape in objects.items():
        draft.add(
            key,
            shape.label,
            position,
            shape.box,
            shape.place,
            occlusion=shape.occlusion,
            mask=shape.mask,
        )


def _join(part: Shape, other: Shape) -> Shape:
    masks = [shape.mask for shape in (part, other) if shape.mask is not None]
    return replace(other, box=union(part.box, other.box), mask=join_masks(masks) if masks else None)


def _split_label(shape: Shape) -> tuple[str, str]:
    """``car-1`` is object ``car-1`` of class ``car``."""
    parts = re.fullmatch(r'(.+?)[\s_.:#-]*([0-9]+)', shape.label)
    if parts is None:
        shape.place.fail(f'label {shape.label!r} has no number at its end to tell the object by')
    return parts[1], shape.label
