"""CVAT for images 1.1: shapes of single images, which an attribute or a group makes tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from .box_set import BoxSet, Collector, ReadOptions
from .cvat import (
    SHAPES,
    element_mask,
    mask_size,
    read_labels,
    read_occlusion,
    read_outline,
)
from .identity import Image, Shape, add_images, class_names
from .place import Place, read_xml, source_files


@dataclass(frozen=True)
class _Key:
    """What images of one video share; the folder begins with the subset."""

    path: Path
    task: str
    folder: str


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads an xml file, or all of a folder.

    Images of one folder, task and subset of a file are the frames of a video, in the order of
    their ids. A video is called like the folder of its images, else like its task if the file has
    several, else like the file. Videos that would be called alike get the names of all three. Which
    shapes are one object is told by ``options.identity``. Masks and polygons are kept with
    ``keep_masks``.

    Raises:
        AnnotationError: if a file is broken, or shapes have no identity.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    classes: list[str] = []
    images: dict[_Key, list[tuple[int, Image]]] = {}
    tasks: dict[tuple[Path, str], str] = {}
    for path in source_files(source, '.xml'):
        place = Place(path)
        for element in read_xml(path, ('meta', 'track', 'image')):
            if element.tag == 'meta':
                classes += read_labels(element, place)
                tasks |= {(path, key): name for key, name in _task_names(element, place)}
            elif element.tag == 'track':
                place.fail('holds tracks, not images; read it with --from cvat-video')
            else:
                key, number, image = _read_image(element, options, collector, place)
                images.setdefault(key, []).append((number, image))
    names = _video_names(images, tasks)
    videos: dict[str, list[Image]] = {}
    for key, found in images.items():
        if names[key] in videos:
            found[0][1].place.fail(
                f'a second video is called {names[key]!r}; rename the file or import one by one'
            )
        videos[names[key]] = [image for _, image in sorted(found, key=lambda item: item[0])]
    add_images(collector, videos)
    return collector.finish(class_names(classes, options.identity))


def _task_names(meta: Element, place: Place) -> Iterator[tuple[str, str]]:
    """Id and name of each task that has both."""
    for task in meta.iter('task'):
        key, name = ((task.findtext(field) or '').strip() for field in ('id', 'name'))
        if key and name:
            yield key, place.at('meta').text(name, 'name of a task')


def _video_names(keys: Collection[_Key], tasks: Mapping[tuple[Path, str], str]) -> dict[_Key, str]:
    """Name of each video: of its folder, task or file, or of all three to tell it from another."""
    whole, short = {}, {}
    tasks_of: dict[Path, set[str]] = {}
    for key in keys:
        tasks_of.setdefault(key.path, set()).add(key.task)
    for key in keys:
        # CVAT calls every export annotations.xml
        file = key.path.stem if key.path.stem != 'annotations' else key.path.absolute().parent.name
        task = tasks.get((key.path, key.task), f'task_{key.task}' if key.task else '')
        several = len(tasks_of[key.path]) > 1
        whole[key] = '/'.join(part for part in (file, task, key.folder) if part)
        short[key] = key.folder or (task if several else '') or file
    users = Counter(short.values())
    return {key: short[key] if users[short[key]] == 1 else whole[key] for key in short}


def _read_image(
    element: Element, options: ReadOptions, collector: Collector, place: Place
) -> tuple[_Key, int, Image]:
    """Video, id and content of an image."""
    place = place.at(f'image {element.get("name")}')
    name = place.relative_path(element.get('name'), 'name')
    subset = element.get('subset')
    if subset:  # how CVAT lays out the images of a project
        name = place.relative_path(f'{subset}/{name}', 'subset')
    folder = str(PurePosixPath(name).parent)
    key = _Key(place.path, element.get('task_id') or '', '' if folder == '.' else folder)
    size = (
        place.whole(element.get('width'), 'width', 1),
        place.whole(element.get('height'), 'height', 1),
    )
    shapes = _read_shapes(element, size, options, collector, place)
    image = Image(place=place, file_name=name, size=size, shapes=shapes)
    return key, place.whole(element.get('id'), 'id'), image


def _read_shapes(
    element: Element,
    size: tuple[int, int],
    options: ReadOptions,
    collector: Collector,
    place: Place,
) -> tuple[Shape, ...]:
    shapes = []
    whole = mask_size(size, place) if options.keep_masks else None
    kind, _, attribute = options.identity.partition(':')
    for index, child in enumerate(element):
        spot = place.at(f'shape {index} ({child.tag})')
        if child.tag == 'tag':
            collector.note('tags of whole images left out')
            continue
        if child.tag not in SHAPES:
            spot.fail(f'unknown shape, expected one of {sorted(SHAPES)}')
        outline = read_outline(child, spot)
        label = (child.get('label') or '').strip()
        if outline is None:
            collector.note(f'shapes of kind {child.tag} left out, which bound no object')
        elif not label:
            collector.note('shapes without a label left out')
        else:
            label = spot.text(label, 'label')
            group = child.get('group_id')
            group = None if group == '0' else group  # CVAT's number for no group
            if kind == 'attribute':
                values = {a.get('name'): (a.text or '').strip() for a in child.iter('attribute')}
                group = values.get(attribute) or None
            occlusion = read_occlusion(child, spot)
            mask = None
            if whole is not None:
                mask = element_mask(child, whole, collector, spot)
            shapes.append(Shape(label, outline.box(), group, spot, occlusion, mask))
    return tuple(shapes)
