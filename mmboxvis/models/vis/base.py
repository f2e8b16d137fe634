"""What the video models share: inputs, checkpoints, prediction."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.structures import TrackDataSample
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from mmboxvis.models.data_preprocessors import ClipDataPreprocessor
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions

from .clip_network import ClipNetwork
from .video_predictor import VideoPredictor

# mmdet's name of the head in COCO checkpoints; its trackers rename it in the same way
_HEAD_ALIASES = ('track_head.', 'panoptic_head.')


class BaseVIS(BaseModel):
    """A network that predicts clips and a way to run it over videos.

    The network is kept under the name ``student`` in every model, so that a checkpoint goes from
    one to the other. Checkpoints of mmdet's models, with ``backbone.`` and ``track_head.`` or
    ``panoptic_head.`` at the top, load as well; a class layer of another size is left out, with a
    line in the log that says so.

    Args:
        network: config of a :class:`ClipNetwork`.
        test_cfg: arguments of :class:`VideoPredictor`.
        data_preprocessor: config of a :class:`ClipDataPreprocessor`.
        init_cfg: as in mmengine.
    """

    data_preprocessor: ClipDataPreprocessor

    def __init__(
        self,
        *,
        network: dict,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        # built here: mmengine would look in its own registry wherever no default scope is set
        super().__init__(
            data_preprocessor=MODELS.build(data_preprocessor or dict(type='ClipDataPreprocessor')),
            init_cfg=init_cfg,
        )
        self.student: ClipNetwork = MODELS.build(network)
        self.test_cfg = dict(test_cfg or {})

    def forward(
        self,
        inputs: Any,
        data_samples: list[TrackDataSample] | None = None,
        mode: str = 'tensor',
        rgb: Tensor | None = None,
    ) -> Any:
        """Runs the model in one of mmengine's three modes.

        Args:
            inputs: (B, T, 3, H, W) normalised clips; lazy frame sequences in ``predict``.
            data_samples: one a clip or video.
            mode: ``loss`` returns a dict of losses, ``predict`` the data samples with a
                ``pred_video`` each, ``tensor`` the list of :class:`ClipPredictions`.
            rgb: (B, T, 3, H, W) 0-255, needed by ``loss``.
        """
        if mode == 'tensor':
            return self.student(inputs)
        if mode not in ('loss', 'predict'):
            raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', got {mode!r}")
        if data_samples is None:
            raise ValueError(f'mode {mode!r} needs data_samples')
        if mode == 'loss':
            return self.loss(inputs, data_samples, rgb)
        return self.predict(inputs, data_samples)

    def loss(
        self, inputs: Tensor, data_samples: list[TrackDataSample], rgb: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of a batch of clips."""
        raise NotImplementedError

    @torch.no_grad()
    def predict(
        self, videos: list[Any], data_samples: list[TrackDataSample]
    ) -> list[TrackDataSample]:
        """Segments and tracks the objects of each video, frame by frame.

        Args:
            videos: lazy sequences of (h, w, 3) uint8 frames.
            data_samples: with ``video_id`` and ``ori_shape`` in their metainfo.

        Returns:
            The samples, cloned, with a :class:`VideoPrediction` as ``pred_video``.
        """
        predictor = VideoPredictor(self, **self.test_cfg)
        outputs = []
        for frames, sample in zip(videos, data_samples, strict=True):
            output = sample.new()
            prediction = predictor(
                frames, video_id=sample.video_id, ori_shape=tuple(sample.ori_shape)[:2]
            )
            # as metainfo, because mmdet moves data fields between devices frame by frame
            output.set_field(prediction, 'pred_video', field_type='metainfo')
            outputs.append(output)
        return outputs

    @torch.no_grad()
    def predict_clip(self, frames_rgb: Tensor) -> list[ClipPredictions]:
        """Predicts one clip with the student.

        Args:
            frames_rgb: (T, 3, H, W) RGB, 0-255, H and W multiples of 32.

        Returns:
            The prediction of the initial queries first, then one a decoder layer.

        Raises:
            ValueError: where H or W is no multiple of 32.
        """
        if frames_rgb.shape[-2] % 32 or frames_rgb.shape[-1] % 32:
            raise ValueError(
                f'frames of {tuple(frames_rgb.shape[-2:])} pixels: height and width must be '
                'multiples of 32, pad them at the right and the bottom'
            )
        frames = self.data_preprocessor.normalize(frames_rgb.to(self.data_preprocessor.device))
        return [layer.clip(0) for layer in self.student(frames[None])]

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # load_state_dict hands the same shallow copy to all children, so what is renamed here is
        # what they see; the caller's dict stays as it was
        self.rename_top_level(state_dict, prefix)
        self._drop_other_classes(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @staticmethod
    def rename_top_level(state_dict: dict[str, Tensor], prefix: str = '') -> None:
        """Gives the tensors of mmdet's models the names that they have here, in place."""
        for key in [key for key in state_dict if key.startswith(prefix)]:
            name = key[len(prefix) :]
            owner, _, rest = name.partition('.')
            if owner not in ('student', 'teacher'):
                owner, rest = 'student', name
            for alias in _HEAD_ALIASES:
                if rest.startswith(alias):
                    rest = 'track_head.' + rest[len(alias) :]
            if rest.startswith(('backbone.', 'track_head.')):
                renamed = f'{prefix}{owner}.{rest}'
                if renamed != key:
                    state_dict[renamed] = state_dict.pop(key)

    def _drop_other_classes(self, state_dict: dict[str, Tensor], prefix: str) -> None:
        own = self.state_dict()
        for name in [name for name in own if '.cls_embed.' in name]:
            loaded = state_dict.get(prefix + name)
            if loaded is not None and loaded.shape != own[name].shape:
                del state_dict[prefix + name]
                print_log(
                    f'{name}: the checkpoint has {len(loaded)} rows, the model {len(own[name])}; '
                    'the class layer keeps its random start',
                    logger='current',
                )
