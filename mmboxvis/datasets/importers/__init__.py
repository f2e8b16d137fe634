"""Boxes that others drew, in the layout this package trains from, and back.

Each format is a module with ``read``, and with ``write`` where it can be exported to. What passes
between them is a :class:`BoxSet`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from . import (
    bdd_mot,
    coco,
    coco_vid,
    cvat_images,
    cvat_video,
    kitti,
    label_studio,
    labelme,
    masks,
    mot,
    result_dump,
    vis_results,
    yolo_track,
    ytvis,
)
from .box_set import FRAME_NAME, IDENTITIES, MAX_FRAMES, BoxSet, ReadOptions, Track, Video
from .editing import join, map_classes, read_class_map, thin, thin_to_rate
from .movies import check_images, extract_frames, fill_sizes, frames_in_movie, movie_of, probe
from .place import read_names
from .ytvis import to_ytvis

Read = Callable[[Path, ReadOptions], BoxSet]
Write = Callable[[BoxSet], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Reader:
    """How a format is read.

    Attributes:
        read: gives the boxes of a file or folder.
        takes: names of the fields of :class:`ReadOptions` that mean something to it, besides
            ``size``, ``name_template`` and ``max_frames``, which all heed.
    """

    read: Read
    takes: frozenset[str] = frozenset()


READERS: Mapping[str, Reader] = {
    'cvat-video': Reader(cvat_video.read, frozenset({'first_frame', 'keep_masks'})),
    'cvat-images': Reader(cvat_images.read, frozenset({'first_frame', 'identity', 'keep_masks'})),
    'mot': Reader(mot.read, frozenset({'first_frame', 'origin', 'label', 'labels'})),
    'kitti': Reader(kitti.read, frozenset({'first_frame'})),
    'coco-vid': Reader(coco_vid.read, frozenset({'keep_masks'})),
    'coco': Reader(coco.read, frozenset({'first_frame', 'identity', 'keep_masks'})),
    'mmtrack-results': Reader(result_dump.read, frozenset({'annotations', 'labels', 'keep_masks'})),
    'label-studio': Reader(label_studio.read, frozenset({'label'})),
    'yolo-track': Reader(yolo_track.read, frozenset({'first_frame', 'labels', 'last_column'})),
    'bdd-mot': Reader(bdd_mot.read),
    'labelme': Reader(labelme.read, frozenset({'first_frame', 'identity'})),
    'masks': Reader(masks.read, frozenset({'first_frame', 'label', 'labels', 'keep_masks'})),
    'ytvis': Reader(ytvis.read, frozenset({'first_frame', 'keep_masks'})),
}
"""Formats that can be read, by the name the command line knows them by."""

WRITERS: Mapping[str, Write] = {
    'mot': mot.write,
    'cvat-video': cvat_video.write,
    'coco-vid': coco_vid.write,
    'yolo-track': yolo_track.write,
    'vis-results': vis_results.write,
}
"""Formats that can be written; each gives relative paths and texts of its files."""

__all__ = [
    'FRAME_NAME',
    'IDENTITIES',
    'MAX_FRAMES',
    'READERS',
    'WRITERS',
    'BoxSet',
    'ReadOptions',
    'Reader',
    'Track',
    'Video',
    'check_images',
    'extract_frames',
    'fill_sizes',
    'frames_in_movie',
    'join',
    'map_classes',
    'movie_of',
    'probe',
    'read_class_map',
    'read_names',
    'thin',
    'thin_to_rate',
    'to_ytvis',
]
