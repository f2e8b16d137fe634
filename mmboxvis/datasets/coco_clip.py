"""Images as clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmboxvis.registry import DATASETS

from .box_video import BoxVideo
from .categories import COCO_CLASSES
from .video_json import AnnotationError, read_json

_TRACK_KEYS = dict(image_id='video_id', bbox='bboxes', segmentation='segmentations')


@DATASETS.register_module()
class CocoClips(BoxVideo):
    """A COCO-layout set in which each image is a video of one frame.

    The pipeline makes a clip of it: :class:`~.transforms.ImageToClip` repeats the image, and
    :class:`~.transforms.ClipRandomCrop` and :class:`~.transforms.ClipRotate` move it (paper
    Sec. 3.3). Crowd regions are dropped.

    Args:
        ann_file: json in COCO layout; ``segmentation`` is needed only where masks are asked for.
        **kwargs: see :class:`~.box_video.BoxVideo`; ``classes`` are COCO's 80 by default, and
            boxes without area are read as absent. There is no ``clip`` to set.
    """

    METAINFO: dict = dict(classes=COCO_CLASSES)

    def __init__(self, ann_file: str, **kwargs: Any) -> None:
        defaults = dict(empty_boxes='absent')
        super().__init__(ann_file, clip=dict(num_frames=1), **dict(defaults, **kwargs))

    def read_content(self) -> dict[str, Any]:
        """The COCO json in YouTube-VIS layout, each image a video."""
        content = read_json(self.ann_file)
        images, annotations = content.get('images'), content.get('annotations')
        if not isinstance(images, list):
            raise AnnotationError(
                f"{self.ann_file}: expected a list 'images'; is this a json in COCO layout?"
            )
        return dict(
            videos=[image_as_video(image) for image in images],
            categories=content.get('categories'),
            annotations=(
                [annotation_as_track(entry) for entry in annotations]
                if isinstance(annotations, list)
                else None
            ),
        )


def image_as_video(image: Any) -> Any:
    """An entry of COCO's ``images`` as a video of one frame; what is no object stays as it is."""
    if not isinstance(image, dict):
        return image
    name = image.get('file_name')
    return dict(
        id=image.get('id'),
        name=Path(name).stem if isinstance(name, str) else None,
        width=image.get('width'),
        height=image.get('height'),
        file_names=None if name is None else [name],
    )


def annotation_as_track(annotation: Any) -> Any:
    """A COCO annotation as a track of one frame; what is no object stays as it is."""
    if not isinstance(annotation, dict):
        return annotation
    track = {_TRACK_KEYS.get(key, key): value for key, value in annotation.items()}
    for key in ('bboxes', 'segmentations'):
        if key in track:
            track[key] = [track[key]]
    return track
