"""YouTube-VIS."""

from __future__ import annotations

from typing import Any, Literal

from mmboxvis.registry import DATASETS

from .box_video import BoxVideo
from .categories import YTVIS19_CLASSES, YTVIS21_CLASSES, YTVIS22_CLASSES

_CLASSES = {'2019': YTVIS19_CLASSES, '2021': YTVIS21_CLASSES, '2022': YTVIS22_CLASSES}


@DATASETS.register_module()
class YouTubeVIS(BoxVideo):
    """YouTube-VIS (Yang et al., ICCV 2019; https://youtube-vos.org/dataset/vis).

    Args:
        ann_file: ``train.json`` or ``valid.json`` as distributed, relative to ``data_root``.
        version: release, which fixes the classes.
        **kwargs: see :class:`~.box_video.BoxVideo`; boxes without area are read as absent here
            by default, and ``classes`` may replace those of the release.
    """

    def __init__(
        self, ann_file: str, *, version: Literal['2019', '2021', '2022'] = '2021', **kwargs: Any
    ) -> None:
        if version not in _CLASSES:
            raise ValueError(f'version must be one of {tuple(_CLASSES)}, got {version!r}')
        self.version = version
        defaults = dict(classes=_CLASSES[version], empty_boxes='absent')
        super().__init__(ann_file, **dict(defaults, **kwargs))
