"""CVAT for images 1.1: shapes of single images, which an attribute or a group makes tracks."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

from .box_set import BoxSet, Collector, ReadOptions
from .cvat import SHAPES, read_labels, read_occlusion, read_outline
from .identity import Image, Shape, add_images
from .place import Place, read_xml, source_files


def read(source: Path, options: ReadOptions) -> BoxSet:
    """Reads an xml file, or all of a folder.

    Images of one folder, task and subset are the frames of a video, in the order of their ids.
    Which shapes are one object is told by ``options.identity``.

    Raises:
        AnnotationError: if a file is broken, or shapes have no identity.
        FileNotFoundError: if there is none.
    """
    collector = Collector(options)
    classes: list[str] = []
    images: dict[str, list[tuple[int, Image]]] = {}
    for path in source_files(source, '.xml'):
        place = Place(path)
        for element in read_xml(path, ('meta', 'track', 'image')):
            if element.tag == 'meta':
                classes += read_labels(element, place)
            elif element.tag == 'track':
                place.fail('holds tracks, not images; read it with --from cvat-video')
            else:
                video, number, image = _read_image(element, options, collector, place)
                images.setdefault(video, []).append((number, image))
    add_images(
        collector,
        {
            video: [image for _, image in sorted(found, key=lambda item: item[0])]
            for video, found in images.items()
        },
    )
    return collector.finish(classes)


def _read_image(
    element: Element, options: ReadOptions, collector: Collector, place: Place
) -> tuple[str, int, Image]:
    """Video, id and content of an image."""
    place = place.at(f'image {element.get("name")}')
    name = place.relative_path(element.get('name'), 'name')
    subset = element.get('subset')
    if subset:  # how CVAT lays out the images of a project
        name = place.relative_path(f'{subset}/{name}', 'subset')
    folder = str(PurePosixPath(name).parent)
    image = Image(
        place=place,
        file_name=name,
        size=(
            place.whole(element.get('width'), 'width', 1),
            place.whole(element.get('height'), 'height', 1),
        ),
        shapes=_read_shapes(element, options, collector, place),
    )
    video = folder if folder != '.' else place.path.stem
    return video, place.whole(element.get('id'), 'id'), image


def _read_shapes(
    element: Element, options: ReadOptions, collector: Collector, place: Place
) -> tuple[Shape, ...]:
    shapes = []
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
            if kind == 'attribute':
                values = {a.get('name'): (a.text or '').strip() for a in child.iter('attribute')}
                group = values.get(attribute) or None
            shapes.append(Shape(label, outline.box(), group, spot, read_occlusion(child, spot)))
    return tuple(shapes)
