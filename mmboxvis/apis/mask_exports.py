"""Masks of tracks as other tools read them: COCO images, CVAT for images, CVAT for video.

Where no mask was found in a box, the box itself is exported, cut to the frame. Crowds without
masks are left out. Characters that XML cannot hold become U+FFFD in the files of CVAT.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from mmboxvis.datasets.importers.box_set import numbers_in, pictures_of
from mmboxvis.datasets.importers.cvat import TaskFrames, task_frames
from mmboxvis.datasets.video_json import clip_xywh
from mmboxvis.files import AnnotationError, StrPath, safe_name, unique_name, whole_file
from mmboxvis.structures.video_prediction import RLE

Shape = Literal['mask', 'polygon']

# control characters and halves of characters, which XML knows no way to write
_NOT_IN_XML = re.compile('[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]')


def to_coco(content: Mapping[str, Any], shape: Shape = 'mask') -> dict[str, Any]:
    """Cuts videos into images, in COCO layout.

    Args:
        content: YouTube-VIS layout with ``segmentations`` as compressed RLEs.
        shape: RLEs, which are exact, or polygons, which more programs read.

    Returns:
        ``images`` with ``video_id`` and ``frame_id`` (the place in the video), ``annotations``
        with ``track_id`` (the annotation's id in ``content``), ``categories``, and ``videos``, so
        that CocoVID readers take it too. The ``segmentation`` of a box without a mask is a mask of
        no pixel, or no polygon.
    """
    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    first_image: dict[int, int] = {}
    for video in content['videos']:
        kept = ('id', 'name', 'width', 'height')
        videos.append({key: video[key] for key in kept if key in video})
        first_image[video['id']] = len(images) + 1
        for frame, name in enumerate(video['file_names']):
            images.append(
                dict(
                    id=len(images) + 1,
                    file_name=name,
                    height=video['height'],
                    width=video['width'],
                    video_id=video['id'],
                    frame_id=frame,
                )
            )
    by_id = {video['id']: video for video in content['videos']}
    annotations: list[dict[str, Any]] = []
    for entry in content['annotations']:
        for frame, rle in enumerate(entry['segmentations']):
            video = by_id[entry['video_id']]
            box = _box_alone(entry, frame, video)
            if rle is not None:
                found = _coco_mask(rle, shape)
            elif box is not None:
                found = _coco_box(box, video, shape)
            else:
                continue
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=first_image[entry['video_id']] + frame,
                    category_id=entry['category_id'],
                    **found,
                    iscrowd=int(entry.get('iscrowd', 0)),
                    track_id=entry['id'],
                )
            )
    return dict(
        videos=videos,
        images=images,
        annotations=annotations,
        categories=list(content['categories']),
    )


def write_cvat_images(path: StrPath, content: Mapping[str, Any], shape: Shape = 'mask') -> Path:
    """Writes *CVAT for images 1.1*: all frames of all videos in one file.

    The shapes of a track share their ``group_id``, the annotation's id in ``content``, which is
    the attribute ``track_id`` as well. An object in parts has several polygons.

    Args:
        path: the xml file.
        content: see :func:`to_coco`.
        shape: kind of shapes.
    """
    names = _category_names(content)
    root = _begin(names)
    image_id = 0
    for video in content['videos']:
        tracks = [e for e in content['annotations'] if e['video_id'] == video['id']]
        for frame, file_name in enumerate(video['file_names']):
            image = ET.SubElement(root, 'image', _texts(id=image_id, name=file_name))
            image.attrib.update(_texts(width=video['width'], height=video['height']))
            image_id += 1
            for entry in tracks:
                rle, box = entry['segmentations'][frame], _box_alone(entry, frame, video)
                nodes = [] if box is None else [_box_node(box)]
                for node in nodes if rle is None else _shapes(rle, shape):
                    node.set('label', names[entry['category_id']])
                    node.set('group_id', str(entry['id']))
                    ET.SubElement(node, 'attribute', name='track_id').text = str(entry['id'])
                    image.append(node)
    return _write(path, root)


def cvat_frames(
    video: Mapping[str, Any], first_frame: int | None = None, *, count: bool = False
) -> TaskFrames:
    """What CVAT calls the frames of a video in a task that is made of its file.

    Numbers are those at the ends of the names, ``walk_0010.jpg`` is 10, or positions where not all
    names have one, or they do not rise.

    Args:
        video: an entry of ``videos``.
        first_frame: number in the name of the first picture of the file.
        count: count 0, 1, 2, ..., as CVAT does where the images themselves are uploaded.

    Raises:
        AnnotationError: if names begin at 1 and nothing tells whether that is the first picture,
            or ahead of ``first_frame``.
    """
    names = video['file_names']
    numbers = None if count else numbers_in(names)
    if not numbers:
        return task_frames(None, len(names))
    if first_frame is None and numbers[0] == 1:
        raise AnnotationError(
            f'the images of video {video.get("name", video["id"])!r} are numbered from 1: say '
            '--first-frame 1 if image 1 is the first picture of the video, --first-frame 0 if the '
            'second is; or --count-frames for a task of CVAT that is made of the images'
        )
    pictures = pictures_of(numbers, first_frame or 0, video.get('name', video['id']))
    return task_frames(pictures, len(names))


def write_cvat_videos(
    folder: StrPath,
    content: Mapping[str, Any],
    shape: Shape = 'polygon',
    first_frame: int | None = None,
    *,
    count: bool = False,
) -> list[Path]:
    """Writes *CVAT for video 1.1*: one file a video, every frame a key frame.

    CVAT does not interpolate masks between key frames, which is why polygons are the usual shape
    here. A track has one polygon a frame: of an object in parts it is the largest part. All shapes
    of a track are of one kind, as CVAT wants them: a box without a mask is a polygon with four
    corners or a mask that it fills, and a rectangle only where its track has no mask at all.

    Args:
        folder: where to write ``<video name>.xml``.
        content: see :func:`to_coco`.
        shape: kind of shapes.
        first_frame: see :func:`cvat_frames`.
        count: see :func:`cvat_frames`.

    Raises:
        AnnotationError: see :func:`cvat_frames`; nothing is written then.
    """
    frames_of = {
        video['id']: cvat_frames(video, first_frame, count=count) for video in content['videos']
    }
    names = _category_names(content)
    written: dict[str, Path] = {}
    for video in content['videos']:
        frames = frames_of[video['id']]
        root = _begin(names, video, frames)
        for entry in content['annotations']:
            own = entry['video_id'] == video['id']
            shapes = list(_track_shapes(entry, video, shape, frames.numbers)) if own else []
            if shapes:
                attributes = _texts(id=entry['id'], label=names[entry['category_id']])
                ET.SubElement(root, 'track', attributes, source='auto').extend(shapes)
        name = safe_name(str(video.get('name', ''))) or f'video_{video["id"]}'
        name = unique_name(name, written, video['id'])
        written[name] = _write(Path(folder, f'{name}.xml'), root)
    return list(written.values())


def mask_polygons(mask: np.ndarray, tolerance: float = 1.0) -> list[np.ndarray]:
    """Outlines of the parts of a mask along the edges of its pixels, the largest part first.

    Holes are lost, as the formats know none.

    Args:
        mask: (H, W) bool.
        tolerance: how far, in pixels, an outline may leave the edges; 0 follows them exactly.

    Returns:
        (P, 2) xy a part, from 0 to W and 0 to H, P at least 3.
    """
    if not mask.any():
        return []
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = rows[0], columns[0]
    cut = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # on a grid twice as fine a pixel covers its middle, its edges and its corners
    fine = np.zeros((2 * cut.shape[0] + 1, 2 * cut.shape[1] + 1), np.uint8)
    fine[1::2, 1::2] = cut
    grown = cv2.dilate(fine, np.ones((3, 3), np.uint8))
    contours, _ = cv2.findContours(grown, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contours = sorted(contours, key=cv2.contourArea, reverse=True)
    smooth = [cv2.approxPolyDP(contour, 2 * tolerance, True) for contour in contours]
    kept = [part if len(part) >= 3 else whole for part, whole in zip(smooth, contours)]
    return [part[:, 0] / 2 + (left, top) for part in kept]


def _box_alone(
    entry: Mapping[str, Any], frame: int, video: Mapping[str, Any]
) -> list[float] | None:
    """Corners of the part of a box inside the frame, where it has no mask."""
    boxes = entry.get('bboxes')
    box = boxes[frame] if boxes else None
    if not box or entry['segmentations'][frame] is not None or entry.get('iscrowd'):
        return None
    size = np.array([[video['width'], video['height']]], np.float64)
    corners, inside, _ = clip_xywh(np.array([box], np.float64), size)
    return corners[0].tolist() if inside[0] else None


def _coco_mask(rle: RLE, shape: Shape) -> dict[str, Any]:
    return dict(
        segmentation=rle if shape == 'mask' else _flat_polygons(rle),
        area=int(mask_utils.area(rle)),
        bbox=mask_utils.toBbox(rle).tolist(),
    )


def _coco_box(corners: Sequence[float], video: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    left, top, right, bottom = corners
    width, height = right - left, bottom - top
    size = [video['height'], video['width']]
    nothing = mask_utils.frPyObjects(dict(size=size, counts=[size[0] * size[1]]), *size)
    return dict(
        segmentation=(
            dict(size=size, counts=nothing['counts'].decode()) if shape == 'mask' else []
        ),
        area=width * height,
        bbox=[left, top, width, height],
    )


def _flat_polygons(rle: RLE) -> list[list[float]]:
    return [part.flatten().tolist() for part in mask_polygons(mask_utils.decode(rle) > 0, 0.5)]


def _category_names(content: Mapping[str, Any]) -> dict[int, str]:
    return {category['id']: str(category['name']) for category in content['categories']}


def _texts(**values: Any) -> dict[str, str]:
    return {name: str(value) for name, value in values.items()}


def _begin(
    names: Mapping[int, str],
    video: Mapping[str, Any] | None = None,
    frames: TaskFrames | None = None,
) -> ET.Element:
    """The head of a file; of one video if it is about one."""
    root = ET.Element('annotations')
    ET.SubElement(root, 'version').text = '1.1'
    task = ET.SubElement(ET.SubElement(root, 'meta'), 'task')
    if video is not None and frames is not None:
        ET.SubElement(task, 'name').text = str(video.get('name', video['id']))
        ET.SubElement(task, 'mode').text = 'interpolation'
        for key, text in frames.meta().items():
            ET.SubElement(task, key).text = text
        size = ET.SubElement(task, 'original_size')
        ET.SubElement(size, 'width').text = str(video['width'])
        ET.SubElement(size, 'height').text = str(video['height'])
    labels = ET.SubElement(task, 'labels')
    for name in names.values():
        label = ET.SubElement(labels, 'label')
        ET.SubElement(label, 'name').text = name
        attributes = ET.SubElement(label, 'attributes')
        if video is None:
            attribute = ET.SubElement(attributes, 'attribute')
            for key, value in dict(name='track_id', mutable='False', input_type='text').items():
                ET.SubElement(attribute, key).text = value
    return root


def _shapes(rle: RLE, shape: Shape) -> Iterator[ET.Element]:
    mask = mask_utils.decode(rle) > 0
    common = _texts(source='auto', occluded=0, z_order=0)
    if shape == 'polygon':
        for part in mask_polygons(mask):
            yield ET.Element('polygon', common, points=_points(part))
        return
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    cut = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    window = _texts(left=left, top=top, width=cut.shape[1], height=cut.shape[0])
    yield ET.Element('mask', common | window, rle=', '.join(map(str, _row_runs(cut))))


def _row_runs(mask: np.ndarray) -> list[int]:
    """Lengths of runs, row by row, beginning with background."""
    flat = mask.ravel()
    changes = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return [0, *runs] if flat[0] else runs


def _points(corners: Iterable[Iterable[float]]) -> str:
    return ';'.join(f'{x:.2f},{y:.2f}' for x, y in corners)


def _box_node(corners: Sequence[float]) -> ET.Element:
    sides = {name: f'{v:.2f}' for name, v in zip(('xtl', 'ytl', 'xbr', 'ybr'), corners)}
    return ET.Element('box', _texts(source='manual', occluded=0, z_order=0) | sides)


def _filled(corners: Sequence[float], video: Mapping[str, Any], shape: Shape) -> ET.Element:
    """A box as a shape that can stand among masks or polygons of a track."""
    left, top, right, bottom = corners
    if shape == 'polygon':
        points = _points([(left, top), (right, top), (right, bottom), (left, bottom)])
        common = _texts(source='manual', occluded=0, z_order=0)
        return ET.Element('polygon', common, points=points)
    mask = np.zeros((video['height'], video['width']), np.uint8, order='F')
    mask[math.floor(top) : math.ceil(bottom), math.floor(left) : math.ceil(right)] = 1
    node = next(_shapes(mask_utils.encode(mask), shape))
    node.set('source', 'manual')
    return node


def _track_shapes(
    entry: Mapping[str, Any], video: Mapping[str, Any], shape: Shape, numbers: Sequence[int]
) -> Iterator[ET.Element]:
    """One shape a frame with mask or box, and one marked *outside* in the frame where it ends."""
    masks = entry['segmentations']
    has_masks = any(masks)
    last: ET.Element | None = None
    for frame, rle in enumerate(masks):
        node = None if rle is None else next(_shapes(rle, shape))
        box = _box_alone(entry, frame, video)
        if box is not None:
            node = _filled(box, video, shape) if has_masks else _box_node(box)
        if node is None and last is not None:
            gone = ET.Element(last.tag, dict(last.attrib))
            gone.attrib.update(_texts(frame=numbers[frame], outside=1))
            yield gone
        elif node is not None:
            node.attrib.update(_texts(frame=numbers[frame], outside=0, keyframe=1))
            yield node
        last = node


def _write(path: StrPath, root: ET.Element) -> Path:
    ET.indent(root)
    for node in root.iter():
        if node.text is not None:
            node.text = _NOT_IN_XML.sub('\ufffd', node.text)
        for key, value in node.attrib.items():
            node.set(key, _NOT_IN_XML.sub('\ufffd', value))
    with whole_file(path) as temporary:
        ET.ElementTree(root).write(temporary, encoding='utf-8', xml_declaration=True)
    return Path(path)
