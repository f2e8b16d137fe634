"""Segments and tracks the objects of a video: any source in, results frame by frame out."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from mmcv.transforms import LoadImageFromFile
from mmengine.config import Config

from mmboxvis.datasets import YouTubeVIS
from mmboxvis.datasets.video_frames import Transform, build_transforms
from mmboxvis.models.vis import BaseVIS, VideoPredictor
from mmboxvis.registry import DATASETS, MODELS
from mmboxvis.visualization import write_video
from mmboxvis.visualization.files import StrPath

from .official import load_official, load_weights
from .sources import FrameRange, Source, open_source
from .spool import MaskSpool, SpooledMasks
from .video_run import FrameResult, VideoRun

# what the released program tests YouTube-VIS with
_DEFAULT_PIPELINE = (dict(type='Resize', scale=(1333, 360), keep_ratio=True, backend='pillow'),)
_DEFAULT_FPS = 8.0


class VideoSegmenter:
    """Segments and tracks objects in videos of any length, in bounded memory.

    Frames are decoded ahead in a thread, pass the network once, and leave as soon as no later
    frame can change them. Neither frames nor masks pile up in memory: masks go to disk as
    run-lengths, and scores that need the whole video come at its end.

    Example:
        >>> segmenter = VideoSegmenter('configs/boxvis/boxvis_tiny_toyvis.py', 'iter_900.pth')
        >>> for frame in segmenter('street.mp4'):
        ...     print(frame.index, frame.track_ids, frame.labels, frame.scores)
        ...     masks = frame.masks()  # (n, H, W) bool
        >>> segmenter.write_json('street.json')
        >>> segmenter.write_video('street_overlay.mp4')
        >>> segmenter.close()

    Args:
        config: config file, or a loaded one. Its model, the pipeline of its test data set, and
            the ``test_cfg`` of the model are used.
        checkpoint: weights: a checkpoint of ours or a released one, read without running code.
            ``None`` keeps random weights, with a warning.
        device: where the network runs.
        classes: name of each label; by default those in the checkpoint, else those of the
            config's data set, else ``class 0`` and so on.
        category_ids: category id of each label for :meth:`to_json`; by default label + 1.
        read_ahead: number of frames to decode ahead.

    Raises:
        FileNotFoundError: where config or checkpoint is missing.
        ValueError: where they do not fit together, or the device cannot be used.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Config,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | torch.device = 'cpu',
        *,
        classes: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
        read_ahead: int = 8,
    ) -> None:
        cfg = _load_config(config)
        model = MODELS.build(dict(cfg.model, _scope_='mmboxvis'))
        if not isinstance(model, BaseVIS):
            raise ValueError(f'the config builds a {type(model).__name__}, no model of mmboxvis')
        meta: Mapping[str, Any] = {}
        if checkpoint is None:
            warnings.warn('no checkpoint given: the weights are random', stacklevel=2)
        else:
            meta = load_weights(model, checkpoint)
        dataset = _test_dataset(cfg)
        num_classes = model.student.track_head.num_classes
        self._set_up(
            model,
            device,
            pipeline=_test_pipeline(dataset) or _DEFAULT_PIPELINE,
            classes=classes or _known_classes(meta, dataset, num_classes),
            category_ids=category_ids,
            read_ahead=read_ahead,
        )

    @classmethod
    def from_model(
        cls,
        model: BaseVIS,
        device: str | torch.device = 'cpu',
        *,
        pipeline: Sequence[Transform | Mapping[str, Any]] = _DEFAULT_PIPELINE,
        classes: Sequence[str] | None = None,
        category_ids: Sequence[int] | None = None,
        read_ahead: int = 8,
    ) -> VideoSegmenter:
        """Uses a model that is built and loaded.

        Args:
            model: moved to the device and put into eval mode.
            device: see the class.
            pipeline: transforms of a frame; short edge 360, long edge at most 1333 by default.
            classes: see the class.
            category_ids: see the class.
            read_ahead: see the class.
        """
        segmenter = cls.__new__(cls)
        segmenter._set_up(
            model,
            device,
            pipeline=pipeline,
            classes=classes or _known_classes({}, {}, model.student.track_head.num_classes),
            category_ids=category_ids,
            read_ahead=read_ahead,
        )
        return segmenter

    @classmethod
    def from_official(
        cls,
        path: str | os.PathLike[str],
        device: str | torch.device = 'cpu',
        *,
        test_cfg: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> VideoSegmenter:
        """Uses a released checkpoint without a config, see :func:`load_official`.

        Whatever it was trained on, it runs as the released R50 does on YouTube-VIS: short edge
        360, :class:`QueryTracker`, classes called ``class 0`` and so on. Weights for OVIS and
        BVISD are meant for a short edge of 480, their Swin-L for the overlap tracker: better give
        the class their config of ``configs/testing``, which takes a released checkpoint as well.

        Args:
            path: a released ``.pkl`` or ``.pth``.
            device: see the class.
            test_cfg: arguments of :class:`VideoPredictor`, such as the tracker.
            kwargs: see :meth:`from_model`.
        """
        model = load_official(path)
        model.test_cfg = dict(test_cfg or {})
        return cls.from_model(model, device, **kwargs)

    def _set_up(
        self,
        model: BaseVIS,
        device: str | torch.device,
        *,
        pipeline: Sequence[Transform | Mapping[str, Any]],
        classes: Sequence[str],
        category_ids: Sequence[int] | None,
        read_ahead: int,
    ) -> None:
        num_classes = model.student.track_head.num_classes
        ids = range(1, num_classes + 1) if category_ids is None else category_ids
        for name, values in (('classes', classes), ('category_ids', ids)):
            if len(values) != num_classes:
                raise ValueError(f'{len(values)} {name}, but the model has {num_classes} classes')
        self.device = _usable_device(device)
        self.model = model.to(self.device).eval()
        self.classes = tuple(classes)
        self.category_ids = tuple(ids)
        self.read_ahead = read_ahead
        built = build_transforms(pipeline)
        self.transforms = [t for t in built if not isinstance(t, LoadImageFromFile)]
        self._run: VideoRun | None = None

    def __enter__(self) -> Self:
        """Lets ``with`` close the segmenter."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the last video and of the file with its masks, if there is one.

        What was saved in a ``resume`` file stays there. The segmenter can take another video.
        """
        if self._run is not None:
            self._run.spool.close()
            self._run = None

    def __call__(
        self,
        source: Source,
        *,
        start: int = 0,
        end: int | None = None,
        every: int = 1,
        max_side: int | None = None,
        resume: StrPath | None = None,
        save_every: float = 60.0,
        frame_cache: int = 2**30,
    ) -> Iterator[FrameResult]:
        """Segments a video.

        The results lag behind the frames read by up to a clip, with the overlap tracker by up to
        a window and a clip. An iterator is read ahead of that by ``read_ahead`` frames.

        Args:
            source: a video file, a folder of images, a list of image files or arrays, or an
                iterator of (H, W, 3) uint8 BGR arrays, which may be endless.
            start: first frame to use.
            end: frame to stop before.
            every: distance of the frames to use.
            max_side: shrink frames with a longer side to this; masks then have the size of the
                shrunken frames.
            resume: file that keeps masks and progress. If it holds an interrupted run of the same
                video and settings, that run is taken up: results begin at the first frame that
                is not in the file, and are those of an uninterrupted run. The last run of this
                segmenter is closed, if the file is its own.
            save_every: seconds after which progress is written to ``resume``.
            frame_cache: bytes on disk to keep the frames of an iterator in, so that
                :meth:`write_video` can show them; more frames are not kept.

        Yields:
            One result a frame, in order.

        Raises:
            FileNotFoundError: where the source is missing.
            FrameError: where it is no video, or a frame cannot be read.
            TypeError: where it is nothing of this kind.
            ValueError: where a number is out of range, or ``resume`` holds another run or is in
                use by another segmenter.
        """
        frames = open_source(
            source, FrameRange(start, end, every, max_side), cache_bytes=frame_cache
        )
        predictor = VideoPredictor(self.model, **self.model.test_cfg)
        identity = ''
        if resume is not None:
            known = frames.identity()
            if known is None:
                raise ValueError('only the video of a file or a folder can be resumed')
            identity = '|'.join((known, repr(frames.range), self._identity()))
            Path(resume).parent.mkdir(parents=True, exist_ok=True)
            last = None if self._run is None else self._run.spool.path
            if last is not None and last.resolve() == Path(resume).resolve():
                self.close()
        spool = MaskSpool(None if resume is None else Path(resume))
        run = VideoRun(
            predictor,
            frames,
            self.transforms,
            SpooledMasks.of(predictor.tracker, spool=spool),
            identity=identity,
            save_every=save_every,
            read_ahead=self.read_ahead,
        )
        try:
            run.restore()
        except BaseException:
            spool.close()
            raise
        self._run = run
        return run.results()

    @property
    def run(self) -> VideoRun:
        """The video that was begun last.

        Raises:
            ValueError: before the first one, and once it is closed.
        """
        if self._run is None:
            raise ValueError(
                'no video yet, or it is closed: call the segmenter with one and iterate over it'
            )
        return self._run

    def to_json(self) -> list[dict[str, Any]]:
        """The tracks of the last video, with final scores, in the YouTube-VIS result layout.

        If the iteration was broken off, those of the frames handed out. For a long video
        :meth:`write_json` needs less memory.

        Returns:
            One dict a track with ``video_id`` 1, ``category_id``, ``score`` and
            ``segmentations``, a list of compressed RLEs or ``None``.

        Raises:
            ValueError: before the first frame of a video.
        """
        tracks = self.run.tracks()
        rows = zip(tracks.labels, tracks.scores, tracks.segmentations, strict=True)
        return [
            dict(
                video_id=1,
                category_id=int(self.category_ids[label]),
                score=score,
                segmentations=list(masks),
            )
            for label, score, masks in rows
        ]

    def write_json(self, path: StrPath) -> Path:
        """Writes what :meth:`to_json` gives, whole or not at all, without holding it in memory."""
        return self.run.write_json(path, self.category_ids)

    def write_video(
        self,
        path: StrPath,
        *,
        score_thr: float = 0.3,
        fps: float | None = None,
        frames: Iterable[np.ndarray] | None = None,
        trail_length: int = 0,
        show_boxes: bool = False,
    ) -> Path:
        """Writes the last video with its tracks drawn over it; the frames are read again.

        Args:
            path: ``.mp4`` or ``.gif``.
            score_thr: tracks with a lower final score are not drawn.
            fps: frames per second; by default as many as the source shows of those used, 8 where
                it does not tell.
            frames: the frames, where the source was an iterator of too many to keep.
            trail_length: number of earlier frames whose centres are drawn behind each track.
            show_boxes: whether the boxes around the masks are drawn as well.

        Raises:
            FrameError: where the frames cannot be read again, or are fewer than before.
            ValueError: before the first frame of a video.
        """
        drawn = self.run.overlays(
            self.classes,
            score_thr=score_thr,
            frames=frames,
            trail_length=trail_length,
            show_boxes=show_boxes,
        )
        return write_video(path, drawn, fps or self.run.source.fps or _DEFAULT_FPS)

    def _identity(self) -> str:
        """What tells this network and its settings from others."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.student.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
        settings = (self.transforms, sorted(self.model.test_cfg.items()), self.device)
        digest.update(repr(settings).encode())
        return digest.hexdigest()


def _usable_device(device: str | torch.device) -> torch.device:
    """The device, after a number went there and back."""
    try:
        torch.zeros(1).to(device).cpu()
        return torch.device(device)
    except (RuntimeError, AssertionError) as error:  # torch raises both
        reason = str(error).partition('\n')[0]
        raise ValueError(f'device {str(device)!r} cannot be used here: {reason}') from error


def _load_config(config: str | os.PathLike[str] | Config) -> Config:
    if isinstance(config, Config):
        cfg, name = config, config.filename or 'the config'
    else:
        if not Path(config).is_file():
            raise FileNotFoundError(f'there is no config {config}')
        try:
            cfg, name = Config.fromfile(config), str(config)
        except Exception as error:  # whatever the file does when it is run
            raise ValueError(
                f'{config} cannot be read as a config: {type(error).__name__} {error}'.strip()
            ) from error
    if 'model' not in cfg:
        raise ValueError(f'{name} defines no model; is it a file of _base_?')
    return cfg


def _test_dataset(cfg: Config) -> Mapping[str, Any]:
    """Config of the data set that the model is tested on, freed of wrappers; may be empty."""
    for name in ('test_dataloader', 'val_dataloader'):
        loader = cfg.get(name)
        if loader and loader.get('dataset'):
            dataset = loader['dataset']
            while 'dataset' in dataset:
                dataset = dataset['dataset']
            return dataset
    return {}


def _test_pipeline(dataset: Mapping[str, Any]) -> Sequence[Any] | None:
    """Transforms of the data set, or of the part of it that is tested, as BVISD has parts."""
    parts = [dataset, *(part for part in dataset.values() if isinstance(part, Mapping))]
    return next((part['pipeline'] for part in parts if part.get('pipeline')), None)


def _known_classes(
    meta: Mapping[str, Any], dataset: Mapping[str, Any], num_classes: int
) -> tuple[str, ...]:
    saved = meta.get('dataset_meta') or {}
    for names in (saved.get('classes'), dataset.get('classes'), _dataset_classes(dataset)):
        if names is not None and len(names) == num_classes:
            return tuple(map(str, names))
    return tuple(f'class {label}' for label in range(num_classes))


def _dataset_classes(dataset: Mapping[str, Any]) -> Sequence[str] | None:
    """Classes that a data set has of itself, whatever is in its files."""
    kind = dataset.get('type')
    kind = DATASETS.get(kind) if isinstance(kind, str) else kind
    if kind is YouTubeVIS:
        kept = {key: dataset[key] for key in ('version',) if key in dataset}
        return YouTubeVIS('', lazy_init=True, **kept).metainfo['classes']
    return getattr(kind, 'METAINFO', {}).get('classes')
