"""OVIS."""

from __future__ import annotations

from typing import Any

from mmboxvis.registry import DATASETS

from .box_video import BoxVideo
from .categories import OVIS_CLASSES


@DATASETS.register_module()
class OVIS(BoxVideo):
    """Occluded Video Instance Segmentation (Qi et al., IJCV 2022; https://songbai.site/ovis).

    Only its training file is annotated, with 607 videos; the 901 that papers count include those
    of the two hidden sets.

    Args:
        ann_file: ``annotations_train.json`` or ``annotations_valid.json`` as distributed.
        **kwargs: see :class:`~.box_video.BoxVideo`; boxes without area are read as absent here
            by default.
    """

    METAINFO: dict = dict(classes=OVIS_CLASSES)

    def __init__(self, ann_file: str, **kwargs: Any) -> None:
        super().__init__(ann_file, **dict(dict(empty_boxes='absent'), **kwargs))
