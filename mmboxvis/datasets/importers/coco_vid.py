"""CocoVID, the layout of mmtrack and of mmdet's tracking sets; TAO has the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .box_set import VISIBILITY, BoxSet, Collector, ReadOptions, VideoDraft, occlusion_level
from .identity import Shape
from .place import Place, read_json
from .rle import empty_mask, frame_size, read_mask


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads a json of videos, images, and annotations with ``instance_id`` or ``track_id``.

    Frames are the images of a video by their ``frame_id``. Crowd and ignored annotations are left
    out. Instances are told apart within their video. Masks are read with ``keep_masks``.

    Raises:
        AnnotationError: if the file is broken.
        FileNotFoundError: if it is missing.
    """
    place = Place(source)
    content = place.table(read_json(source), 'the file')
    collector = Collector(options)
    names = read_categories(content, place)
    drafts, frame_of = read_videos(content, collector, place)
    for index, entry in enumerate(place.items(content.get('annotations'), 'annotations')):
        spot = place.at(f'annotations[{index}]')
        _read_annotation(spot.table(entry, 'the entry'), names, drafts, frame_of, collector, spot)
    return collector.finish(tuple(names.values()))


def read_categories(content: dict[str, Any], place: Place) -> dict[int, str]:
    """Name of each category id, in the order of the file."""
    names: dict[int, str] = {}
    for index, entry in enumerate(place.items(content.get('categories'), 'categories')):
        spot = place.at(f'categories[{index}]')
        key = spot.whole(spot.table(entry, 'the entry').get('id'), 'id')
        if key in names:
            spot.fail(f'id {key} is used twice')
        names[key] = spot.text(entry.get('name'), 'name')
    return names


def read_videos(
    content: dict[str, Any], collector: Collector, place: Place
) -> tuple[dict[int, VideoDraft], dict[int, tuple[int, int]]]:
    """Videos by id, and of each image id the video id and the position in it."""
    entries: dict[int, tuple[Place, dict[str, Any]]] = {}
    for index, entry in enumerate(place.items(content.get('videos'), 'videos')):
        spot = place.at(f'videos[{index}]')
        key = spot.whole(spot.table(entry, 'the entry').get('id'), 'id')
        if key in entries:
            spot.fail(f'id {key} is used twice')
        entries[key] = spot, entry
    images: dict[int, list[tuple[int, Place, dict[str, Any]]]] = {key: [] for key in entries}
    for index, image in enumerate(place.items(content.get('images'), 'images')):
        spot = place.at(f'images[{index}]')
        key = spot.whole(spot.table(image, 'the entry').get('video_id'), 'video_id')
        if key not in images:
            spot.fail(f'video_id {key} is not among the videos')
        images[key].append((spot.whole(image.get('frame_id'), 'frame_id'), spot, image))
    drafts: dict[int, VideoDraft] = {}
    frame_of: dict[int, tuple[int, int]] = {}
    for key, (spot, entry) in entries.items():
        found = sorted(images[key], key=lambda item: item[0])
        if not found:
            collector.note('videos without images left out')
            continue
        for position, (frame, image_spot, image) in enumerate(found):
            if position and frame == found[position - 1][0]:
                image_spot.fail(f'frame_id {frame} of video {key} is used twice')
            image_id = image_spot.whole(image.get('id'), 'id')
            if image_id in frame_of:
                image_spot.fail(f'id {image_id} is used twice')
            frame_of[image_id] = key, position
        drafts[key] = _begin(entry, found, collector, spot)
    return drafts, frame_of


def read_size(entry: dict[str, Any], place: Place) -> tuple[int | None, int | None]:
    """Width and height of an image or video, ``None`` where they are not told."""
    width, height = (
        None if entry.get(side) is None else place.whole(entry[side], side, 1)
        for side in ('width', 'height')
    )
    return width, height


def _begin(
    entry: dict[str, Any],
    images: list[tuple[int, Place, dict[str, Any]]],
    collector: Collector,
    place: Place,
) -> VideoDraft:
    """Begins a video; its size is that of all its images, or its own."""
    sizes = {
        read_size(source, spot)
        for spot, source in [(place, entry), *((spot, image) for _, spot, image in images)]
    } - {(None, None)}
    if len(sizes) > 1:
        told = sorted(sizes, key=str)[:3]  # a side may be missing
        place.fail(f'video and images have different sizes (width, height): {told}')
    width, height = sizes.pop() if sizes else (None, None)
    fps = entry.get('fps')
    return collector.video(
        entry.get('name') or f'video_{entry["id"]}',
        [frame for frame, _, _ in images],
        place,
        size=(width, height),
        file_names=[spot.relative_path(i.get('file_name'), 'file_name') for _, spot, i in images],
        fps=None if fps is None else place.number(fps, 'fps', 1e-3),
        may_share=True,
    )


def _read_annotation(
    entry: dict[str, Any],
    names: dict[int, str],
    drafts: dict[int, VideoDraft],
    frame_of: dict[int, tuple[int, int]],
    collector: Collector,
    place: Place,
) -> None:
    image_id = place.whole(entry.get('image_id'), 'image_id')
    if image_id not in frame_of:
        place.fail(f'image_id {image_id} is not among the images')
    video_id, position = frame_of[image_id]
    if entry.get('video_id', video_id) != video_id:
        place.fail(f'video_id is {entry["video_id"]}, but image {image_id} is of video {video_id}')
    field = 'track_id' if entry.get('instance_id') is None else 'instance_id'
    key = place.whole(entry.get(field), 'instance_id (or track_id)')
    video = drafts[video_id].video
    shape = read_shape(entry, names, (video.width, video.height), collector, place)
    if shape is not None:
        drafts[video_id].add(
            key,
            shape.label,
            position,
            shape.box,
            place,
            occlusion=shape.occlusion,
            mask=shape.mask,
        )


def read_shape(
    entry: dict[str, Any],
    names: Mapping[int, str],
    size: tuple[int | None, int | None],
    collector: Collector,
    place: Place,
) -> Shape | None:
    """What an annotation says about one object in one image, but for who it is.

    Args:
        entry: the annotation.
        names: name of each category id; others get one made of the id.
        size: width and height of the image, as far as known; masks need it.
        collector: told what is left out; its options say whether masks are kept.
        place: where the annotation stands.

    Returns:
        ``None`` for crowds and what is to be ignored.

    Raises:
        AnnotationError: if it is broken, or a mask is missing that is to be kept.
    """
    box = [
        place.number(value, 'a number of bbox')
        for value in place.items(entry.get('bbox'), 'bbox', 4)
    ]
    category = place.whole(entry.get('category_id'), 'category_id')
    if entry.get('iscrowd') or entry.get('ignore'):
        collector.note('crowd and ignored annotations left out')
        return None
    if category not in names:
        collector.note(f'boxes of a category that the file does not name: category_{category}')
    visibility, occluded = entry.get('visibility'), entry.get('occluded')
    return Shape(
        label=names.get(category, f'category_{category}'),
        box=(box[0], box[1], box[2], box[3]),
        group=None,
        place=place,
        occlusion=occlusion_level(
            None if occluded is None else bool(occluded),
            None if visibility is None else place.number(visibility, 'visibility'),
        ),
        mask=_read_mask(entry, size, place) if collector.options.keep_masks else None,
    )


def _read_mask(
    entry: dict[str, Any], size: tuple[int | None, int | None], place: Place
) -> dict[str, Any]:
    """The mask of an annotation, of which masks are to be kept."""
    mask = entry.get('segmentation')
    if mask is None:
        place.fail('has no segmentation; read without --keep-masks to have the boxes alone')
    whole = frame_size(size, place)
    if mask == []:  # a box for which there is no mask, among polygons
        return empty_mask(whole)
    return read_mask(mask, whole, place.at('segmentation'))


def write(boxes: BoxSet) -> Iterator[tuple[str, str]]:
    """Yields one json; instance ids are unique in all of it and begin with 1."""
    number_of = {name: number for number, name in enumerate(boxes.classes, start=1)}
    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    instance = 0
    for video_id, video in enumerate(boxes.videos, start=1):
        sides = dict(width=video.width, height=video.height, fps=video.fps)
        known = {name: value for name, value in sides.items() if value is not None}
        videos.append(dict(id=video_id, name=video.name, **known))
        known.pop('fps', None)
        before = len(images)
        for frame, file_name in enumerate(video.file_names):
            images.append(
                dict(
                    id=before + frame + 1,
                    video_id=video_id,
                    file_name=file_name,
                    frame_id=frame,
                    mot_frame_id=frame + 1,
                    **known,
                )
            )
        for track in video.tracks:
            instance += 1
            for frame, box in sorted(track.boxes.items()):
                level = track.occlusion.get(frame)
                told = level and dict(
                    occluded=level != 'no_occlusion', visibility=VISIBILITY[level]
                )
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        video_id=video_id,
                        image_id=before + frame + 1,
                        category_id=number_of[track.label],
                        instance_id=instance,
                        bbox=[round(value, 4) for value in box],
                        area=round(box[2] * box[3], 4),
                        iscrowd=0,
                        **(told or {}),
                    )
                )
    categories = [dict(id=number, name=name) for name, number in number_of.items()]
    content = dict(videos=videos, images=images, annotations=annotations, categories=categories)
    yield 'annotations.json', json.dumps(content)
