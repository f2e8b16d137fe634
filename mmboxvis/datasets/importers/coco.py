"""Plain COCO instances: images that ids or file names make videos, annotations as their objects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mmboxvis.files import natural_key

from .box_set import BoxSet, Collector, ReadOptions
from .coco_vid import read_categories, read_shape, read_size
from .identity import Image, Shape, add_images, class_names
from .place import Place, read_json, shown

_TRACK_FIELDS = ('instance_id', 'track_id')


@dataclass(frozen=True)
class _Entry:
    """An image, and the id of its video if the file tells."""

    image: Image
    video_id: int | None


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a json of images and annotations; ``videos`` may be there, for their names.

    Images with ``video_id`` are the frames of that video, in the order of ``frame_id`` or, without
    it, of their names. Else the images of a folder are a video, and images without a folder are of
    the video that the text ahead of the last number in their names tells. Which annotations are
    one object is told by ``options.identity``, where ``group_id`` stands for ``instance_id`` or
    ``track_id``. Fields may also stand in the ``attributes`` of an annotation, where CVAT puts
    them. Masks are read with ``keep_masks``.

    Raises:
        AnnotationError: if the file is broken, images cannot be put into videos, or annotations
            have no identity.
        FileNotFoundError: if it is missing.
    """
    place = Place(source)
    content = place.table(read_json(source), 'the file')
    collector = Collector(options)
    names = read_categories(content, place)
    entries = _read_images(content, place)
    shapes = _read_annotations(content, names, entries, collector, place)
    images = {
        key: replace(entry, image=replace(entry.image, shapes=tuple(shapes[key])))
        for key, entry in entries.items()
    }
    videos = _into_videos(list(images.values()), content, options, place)
    # an id is of one object, so that a class which is corrected in a frame does not split it
    add_images(collector, videos, groups_of_a_label=False)
    return collector.finish(class_names(names.values(), options.identity))


def _read_images(content: dict[str, Any], place: Place) -> dict[int, _Entry]:
    """Images by their ids, without shapes."""
    entries: dict[int, _Entry] = {}
    for index, image in enumerate(place.items(content.get('images'), 'images')):
        spot = place.at(f'images[{index}]')
        key = spot.whole(spot.table(image, 'the entry').get('id'), 'id')
        if key in entries:
            spot.fail(f'id {key} is used twice')
        video_id, frame = (
            None if image.get(name) is None else spot.whole(image[name], name)
            for name in ('video_id', 'frame_id')
        )
        name = spot.relative_path(image.get('file_name'), 'file_name')
        entries[key] = _Entry(Image(spot, name, read_size(image, spot), (), frame), video_id)
    if not entries:
        place.fail('images is empty; expected the frames of a video at least')
    return entries


def _read_annotations(
    content: dict[str, Any],
    names: Mapping[int, str],
    entries: Mapping[int, _Entry],
    collector: Collector,
    place: Place,
) -> dict[int, list[Shape]]:
    """Shapes by the ids of their images."""
    shapes: dict[int, list[Shape]] = {key: [] for key in entries}
    for index, entry in enumerate(place.items(content.get('annotations'), 'annotations')):
        spot = place.at(f'annotations[{index}]')
        image_id = spot.whole(spot.table(entry, 'the entry').get('image_id'), 'image_id')
        if image_id not in entries:
            spot.fail(f'image_id {image_id} is not among the images')
        attributes = spot.table(entry.get('attributes') or {}, 'attributes')
        known = {**attributes, **{key: value for key, value in entry.items() if value is not None}}
        own = entries[image_id].image.size
        size = own if None not in own else collector.options.size or own
        shape = read_shape(known, names, size, collector, spot)
        if shape is not None:
            group = _group(known, collector.options.identity, spot)
            shapes[image_id].append(replace(shape, group=group))
    return shapes


def _group(entry: dict[str, Any], identity: str, place: Place) -> str | None:
    """What an annotation says about who the object is, if anything."""
    kind, _, attribute = identity.partition(':')
    for name in (attribute,) if kind == 'attribute' else _TRACK_FIELDS:
        value = entry.get(name)
        if isinstance(value, str):
            return value or None
        if value is not None:
            return str(place.whole(value, name, -(10**9)))
    return None


def _into_videos(
    entries: Sequence[_Entry], content: dict[str, Any], options: ReadOptions, place: Place
) -> dict[str, list[Image]]:
    """Name of each video and its images in order."""
    if options.identity == 'none':
        return {'': [entry.image for entry in entries]}
    if all(entry.video_id is None for entry in entries):
        return _by_file_name([entry.image for entry in entries], place)
    videos: dict[int, list[Image]] = {}
    for entry in entries:
        if entry.video_id is None:
            entry.image.place.fail(
                'has no video_id, though others have; give one to all images or to none'
            )
        videos.setdefault(entry.video_id, []).append(entry.image)
    names = _video_names(videos, content, place)
    return {names[key]: _by_frame_id(images, key) for key, images in videos.items()}


def _by_frame_id(images: Sequence[Image], video_id: int) -> list[Image]:
    """Images of a video by their numbers, or by their names if none has a number."""
    if all(image.number is None for image in images):
        return sorted(images, key=lambda image: natural_key(image.file_name))
    met: dict[int, Image] = {}
    for image in images:
        if image.number is None:
            image.place.fail(
                f'has no frame_id, though others of video {video_id} have; give one to all or none'
            )
        if image.number in met:
            image.place.fail(f'frame_id {image.number} of video {video_id} is used twice')
        met[image.number] = image
    return [met[number] for number in sorted(met)]


def _video_names(
    videos: Mapping[int, Sequence[Image]], content: dict[str, Any], place: Place
) -> dict[int, str]:
    """Name of each video: as the file says, else its folder if no other shares it."""
    names: dict[int, str] = {}
    for index, entry in enumerate(place.items(content.get('videos') or [], 'videos')):
        spot = place.at(f'videos[{index}]')
        key = spot.whole(spot.table(entry, 'the entry').get('id'), 'id')
        if entry.get('name') is not None:
            names[key] = spot.text(entry['name'], 'name')
    folders = {key: {_folder(image) for image in images} for key, images in videos.items()}
    users = Counter(folder for found in folders.values() for folder in found)
    for key, found in folders.items():
        folder = min(found)
        alone = len(found) == 1 and folder != '.' and users[folder] == 1
        names.setdefault(key, folder if alone else f'video_{key}')
    twice = next((name for name, n in Counter(names[key] for key in videos).items() if n > 1), None)
    if twice is not None:
        place.fail(f'two videos are called {shown(twice)}; names must differ, rename one')
    return names


def _by_file_name(images: Sequence[Image], place: Place) -> dict[str, list[Image]]:
    """Images that share a folder, or the start of their names, in natural order."""
    videos: dict[str, list[Image]] = {}
    for image in sorted(images, key=lambda image: natural_key(image.file_name)):
        video = _folder(image)
        if video == '.':
            parts = re.fullmatch(r'(.*?)[\s_.:#-]*[0-9]+', PurePosixPath(image.file_name).stem)
            if parts is None and len(images) > 1:
                image.place.fail(
                    f'nothing tells the video and frame that {shown(image.file_name)} is: give '
                    'all images video_id and frame_id, put the frames of each video into a folder '
                    'of its own, or number them (walk_0001.jpg); if the images are no video, use '
                    '--identity none'
                )
            video = (parts[1] if parts else '') or place.path.stem
        videos.setdefault(video, []).append(image)
    return videos


def _folder(image: Image) -> str:
    return str(PurePosixPath(image.file_name).parent)
