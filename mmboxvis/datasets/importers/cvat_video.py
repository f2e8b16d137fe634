"""CVAT for video 1.1: tracks with key frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from .box_set import BoxSet, Collector, OcclusionLevel, ReadOptions, Track, Video, VideoDraft
from .cvat import (
    SHAPES,
    Outline,
    TaskFrames,
    between,
    element_mask,
    mask_size,
    outline_mask,
    read_flag,
    read_labels,
    read_occlusion,
    read_outline,
    task_frames,
)
from .movies import frames_in_movie
from .place import AnnotationError, Place, read_xml, source_files

Element = ElementTree.Element


@dataclass(frozen=True)
class _Task:
    """A task or job: a cut of one video.

    ``length`` is ``None`` where the file does not tell; frame k of the cut is frame
    ``start + k * step`` of the video, which is how shapes count.
    """

    name: str
    length: int | None
    start: int = 0
    step: int = 1
    size: tuple[int | None, int | None] = (None, None)


@dataclass(frozen=True)
class _Key:
    """A shape of a track, at a position in the cut; with its mask, if masks are kept."""

    position: int
    outline: Outline
    outside: bool
    occlusion: OcclusionLevel | None
    mask: dict[str, Any] | None


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads an xml file, or all of a folder.

    Boxes between key frames are filled in as CVAT does, and none where an object is outside. A
    shape that is not ended is carried to the end of the task. Frames have CVAT's numbers, those of
    the pictures of a video file from 0; ``first_frame`` is added to them. Masks and polygons are
    kept with ``keep_masks``.

    Raises:
        AnnotationError: if a file is broken.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    classes: list[str] = []
    for path in source_files(source, '.xml'):
        classes += _read_file(path, collector)
    return collector.finish(classes)


def _read_file(path: Path, collector: Collector) -> tuple[str, ...]:
    place = Place(path)
    # CVAT calls every export annotations.xml
    fallback = path.absolute().parent.name if path.stem == 'annotations' else path.stem
    tasks = {'': _Task(fallback, None)}
    labels: tuple[str, ...] = ()
    drafts: dict[str, VideoDraft] = {}
    for element in read_xml(path, ('meta', 'track', 'image')):
        if element.tag == 'meta':
            tasks, labels = _read_meta(element, fallback, place), read_labels(element, place)
        elif element.tag == 'image':
            place.fail('holds images, not tracks; read it with --from cvat-images')
        else:
            spot = place.at(f'track {element.get("id")}')
            task_id = _task_of(element, tasks, spot)
            if task_id not in drafts:
                drafts[task_id] = _begin(tasks[task_id], path, collector, place)
            _read_track(element, tasks[task_id], drafts[task_id], collector, spot)
    for task_id, task in tasks.items():
        if task_id not in drafts and task.length is not None:
            _begin(task, path, collector, place)
    return labels


def _read_meta(meta: Element, fallback: str, place: Place) -> dict[str, _Task]:
    tasks = meta.findall('project/tasks/task') or meta.findall('task') or meta.findall('job')
    found = {}
    for element in tasks:
        key = (element.findtext('id') or '').strip()
        spot = place.at(f'meta, {element.tag} {key}')
        if key in found:
            spot.fail('the id is used twice')
        found[key] = _read_task(element, meta, fallback, spot)
    return found or {'': _Task(fallback, None)}


def _read_task(element: Element, meta: Element, fallback: str, place: Place) -> _Task:
    def number(name: str, low: int = 0) -> int | None:
        text = element.findtext(name)
        return place.whole(text, name, low) if text and text.strip() else None

    start, stop = number('start_frame') or 0, number('stop_frame')
    step_filter = re.search(r'step\s*=\s*(\S+)', element.findtext('frame_filter') or '')
    step = place.whole(step_filter[1], 'step of frame_filter', 1) if step_filter else 1
    length = number('size', 1)
    if length is None and stop is not None:
        length = (stop - start) // step + 1
    shape = element.find('original_size')
    shape = meta.find('original_size') if shape is None else shape
    sides = [None if shape is None else shape.findtext(side) for side in ('width', 'height')]
    width, height = (None if side is None else place.whole(side, 'original_size') for side in sides)
    name = (element.findtext('name') or '').strip() or fallback
    return _Task(name, length, start, step, (width, height))


def _task_of(track: Element, tasks: dict[str, _Task], place: Place) -> str:
    if len(tasks) == 1:
        return next(iter(tasks))
    task_id = track.get('task_id')
    if task_id not in tasks:
        place.fail(f'task_id {task_id!r} is none of the tasks {list(tasks)} of the project')
    return task_id


def _begin(task: _Task, path: Path, collector: Collector, place: Place) -> VideoDraft:
    length = task.length
    if length is None:
        last = max(_all_frames(path, place), default=task.start)
        length = (last - task.start) // task.step + 1
    first = collector.options.first_frame or 0
    start = first + task.start
    return collector.video(
        task.name,
        range(start, start + length * task.step, task.step),
        place.at('meta'),
        size=task.size,
        first_number=first,
    )


def _all_frames(path: Path, place: Place) -> Iterator[int]:
    for track in read_xml(path, ('track',)):
        for shape in track:
            yield place.at(f'track {track.get("id")}').whole(shape.get('frame'), 'frame')


def _read_track(
    element: Element, task: _Task, draft: VideoDraft, collector: Collector, place: Place
) -> None:
    label = place.text(element.get('label'), 'label')
    key = place.text(element.get('id'), 'id')
    keys: dict[int, _Key] = {}
    keep = collector.options.keep_masks
    size = mask_size((draft.video.width, draft.video.height), place) if keep else None
    for shape in element:
        if shape.tag not in SHAPES:
            place.fail(f'unknown shape {shape.tag!r}, expected one of {sorted(SHAPES)}')
        frame = place.whole(shape.get('frame'), 'frame')
        spot = place.at(f'{shape.tag} at frame {frame}')
        position, rest = divmod(frame - task.start, task.step)
        if rest or not 0 <= position < len(draft):
            last = task.start + (len(draft) - 1) * task.step
            spot.fail(
                f'is not among the frames {task.start} to {last} in steps of {task.step} that the '
                'task has'
            )
        outline = read_outline(shape, spot)
        if outline is None:
            collector.note(f'tracks of {shape.tag} left out, which bound no object')
            return
        if position in keys:
            spot.fail('the track has two shapes in this frame')
        outside = bool(read_flag(shape, 'outside', spot))
        mask = None
        if size is not None and not outside:
            mask = element_mask(shape, size, collector, spot)
        keys[position] = _Key(position, outline, outside, read_occlusion(shape, spot), mask)
    if not keys:
        collector.note('tracks without shapes left out')
        return
    ordered = [keys[position] for position in sorted(keys)]
    for current, following in zip(ordered, [*ordered[1:], None], strict=True):
        if not current.outside:
            _fill(key, label, current, following, draft, place)


def _fill(
    key: str, label: str, current: _Key, following: _Key | None, draft: VideoDraft, place: Place
) -> None:
    """Adds boxes from a key up to, and without, the next one, or to the end of the video."""
    stop = len(draft) if following is None else following.position
    if current.outline.kind == 'mask':  # there is no rule to fill in masks
        stop = current.position + 1
    box, mask = current.outline.box(), current.mask
    moves = following is not None and following.outline != current.outline
    for position in range(current.position, stop):
        if moves and following is not None and position > current.position:
            weight = (position - current.position) / (following.position - current.position)
            outline = between(current.outline, following.outline, weight)
            box = outline.box()
            if mask is not None:
                mask = outline_mask(outline, (mask['size'][0], mask['size'][1]), place)
        draft.add(key, label, position, box, place, occlusion=current.occlusion, mask=mask)


def write(boxes: BoxSet) -> Iterator[tuple[str, str]]:
    """Yields one xml file a video: its path and its text.

    Every box is a key frame, and an object is outside from the first frame in which it is not
    seen. Slight and severe occlusion both become ``occluded``. Frames are numbered as the pictures
    of the video file, from 0, or in their order where that is not known.

    Raises:
        AnnotationError: if the size of a video is not known, or a frame is ahead of the first.
    """
    for number, video in enumerate(boxes.videos):
        numbers = list(frames_in_movie(video)) if video.numbered else None
        frames = task_frames(numbers, len(video.numbers))
        root = ElementTree.Element('annotations')
        _text(root, 'version', '1.1')
        _write_meta(root, number, video, frames, boxes.classes)
        for index, track in enumerate(video.tracks):
            _write_track(root, index, track, frames.numbers)
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding='unicode')
        yield f'{video.name}.xml', f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def _text(parent: Element, name: str, text: object) -> None:
    ElementTree.SubElement(parent, name).text = str(text)


def _write_meta(
    root: Element, number: int, video: Video, frames: TaskFrames, classes: tuple[str, ...]
) -> None:
    if video.width is None or video.height is None:
        raise AnnotationError(
            f'video {video.name!r}: CVAT needs its width and height; give --size or --images'
        )
    task = ElementTree.SubElement(ElementTree.SubElement(root, 'meta'), 'task')
    _text(task, 'id', number)
    _text(task, 'name', video.name)
    _text(task, 'mode', 'interpolation')
    for name, text in frames.meta().items():
        _text(task, name, text)
    labels = ElementTree.SubElement(task, 'labels')
    for name in classes:
        label = ElementTree.SubElement(labels, 'label')
        _text(label, 'name', name)
        ElementTree.SubElement(label, 'attributes')
    size = ElementTree.SubElement(task, 'original_size')
    _text(size, 'width', video.width)
    _text(size, 'height', video.height)


def _write_track(root: Element, index: int, track: Track, numbers: tuple[int, ...]) -> None:
    element = ElementTree.SubElement(
        root, 'track', id=str(index), label=track.label, source='manual'
    )
    for position in sorted(track.boxes):
        _write_box(element, track, position, numbers[position], outside=False)
        if position + 1 < len(numbers) and position + 1 not in track.boxes:
            _write_box(element, track, position, numbers[position + 1], outside=True)


def _write_box(element: Element, track: Track, position: int, frame: int, *, outside: bool) -> None:
    x, y, w, h = track.boxes[position]
    corners = dict(xtl=x, ytl=y, xbr=x + w, ybr=y + h)
    occluded = track.occlusion.get(position, 'no_occlusion') != 'no_occlusion'
    attributes = dict(
        frame=str(frame),
        keyframe='1',
        outside=str(int(outside)),
        occluded=str(int(occluded)),
        z_order='0',
    )
    attributes |= {name: f'{value:.4f}' for name, value in corners.items()}
    ElementTree.SubElement(element, 'box', attributes)
