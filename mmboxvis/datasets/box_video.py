"""Any data set in YouTube-VIS layout, with boxes, masks, or both."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from mmdet.structures import TrackDataSample
from mmengine.dataset import BaseDataset
from mmengine.logging import print_log

from mmboxvis.files import ImageRoot, OutsideError, path_below
from mmboxvis.registry import DATASETS

from .categories import class_palette, match_categories
from .clip_sampling import sample_clip_frames
from .image_size import image_size
from .video_frames import FrameError, Transform, VideoFrames, build_transforms
from .video_json import (
    AnnotationError,
    BoxSource,
    EmptyBoxes,
    VideoJsonReader,
    read_json,
)


@DATASETS.register_module()
class BoxVideo(BaseDataset):
    """Videos annotated with boxes, one item a video.

    In training an item is a clip: ``inputs`` (T, 3, H, W) uint8 BGR and a ``TrackDataSample``,
    as :class:`~.transforms.PackClipInputs` describes. In testing it is the whole video, lazily:
    ``inputs`` is a :class:`~.video_frames.VideoFrames`, and ``data_samples`` a
    ``TrackDataSample`` with ``video_id``, ``video_name``, ``video_length``, ``ori_shape`` (H, W)
    and ``file_names``.

    ``file_names`` must lie below ``img_root``, also where links are followed; ``img_root`` itself
    may be a link, and so may the folders in ``linked``. ``num_skipped`` counts the clips left out
    by ``on_error='skip'`` in this process.

    The annotation file is checked as a whole when it is loaded. Masks are never read unless
    ``box_source='mask'`` or ``load_masks=True``. Crowd annotations are dropped.

    Example:
        >>> train = BoxVideo(
        ...     data_root='data/mine', ann_file='boxes.json', img_root='JPEGImages',
        ...     pipeline=[dict(type='LoadClipFrames'), dict(type='LoadClipAnnotations'),
        ...               dict(type='ClipResizeShortEdge'), dict(type='ClipRandomFlip'),
        ...               dict(type='PackClipInputs')])
        >>> train[0]['inputs'].shape
        torch.Size([3, 3, 448, 797])

    Args:
        ann_file: json in YouTube-VIS layout, relative to ``data_root``.
        img_root: folder that ``file_names`` are relative to, relative to ``data_root``.
        data_root: common root of both.
        linked: folders below ``img_root``, relative to it, that may be links or be reached through
            links: names that begin with one must lie below that folder instead.
        pipeline: in training, transforms of the clip dict (:mod:`.transforms`); in testing,
            transforms of one decoded frame, such as ``Resize``.
        test_mode: whole videos without annotations instead of clips.
        classes: names of the labels 0 to K-1. By default the classes of a known data set, else
            the file's categories in the file's order. Names are compared without regard to case
            and to space, hyphen or underscore.
        category_map: file's category name to a name in ``classes``, or to ``None`` to drop it;
            names it lacks are matched as they are. A string is one name for all categories.
        unknown_categories: what to do with categories outside ``classes`` that have annotations:
            ``'error'``, or ``'drop'`` these.
        box_source: ``'box'``: boxes are the file's, and augmented as boxes. ``'mask'``: boxes are
            taken from the augmented masks, which the paper's numbers rest on.
        load_masks: also pack masks, for models trained with pixels.
        empty_boxes: ``'error'`` on a box without area, or read it as ``'absent'``.
        clip: arguments ``num_frames``, ``frame_range`` and ``replacement`` of
            :func:`~.clip_sampling.sample_clip_frames`.
        filter_empty: leave out training videos without any annotation that is kept.
        on_error: what an unreadable frame or mask does in training: ``'raise'``, or ``'skip'``:
            count it, log it, and draw another clip.
        indices: use only these videos, or the first so many.
        videos: use only the videos with these names, to train on some and score on others.
        serialize_data: keep records pickled, so that workers share their memory.
        lazy_init: do not load the file yet.
        max_refetch: how many other clips to try with ``on_error='skip'``.

    Raises:
        AnnotationError: if the annotation file is broken; the message says where.
        FileNotFoundError: if the annotation file or the first frame of a video is missing.
        ValueError: if an argument is out of range or a category is unknown.
    """

    METAINFO: dict = dict()

    def __init__(
        self,
        ann_file: str,
        *,
        img_root: str = '',
        data_root: str = '',
        linked: Sequence[str] = (),
        pipeline: Sequence[Transform | Mapping[str, Any]] = (),
        test_mode: bool = False,
        classes: Sequence[str] | None = None,
        category_map: Mapping[str, str | None] | str | None = None,
        unknown_categories: Literal['error', 'drop'] = 'error',
        box_source: BoxSource = 'box',
        load_masks: bool = False,
        empty_boxes: EmptyBoxes = 'error',
        clip: Mapping[str, Any] | None = None,
        filter_empty: bool = True,
        on_error: Literal['raise', 'skip'] = 'raise',
        indices: int | Sequence[int] | None = None,
        videos: Sequence[str] | None = None,
        serialize_data: bool = True,
        lazy_init: bool = False,
        max_refetch: int = 100,
    ) -> None:
        _one_of('unknown_categories', unknown_categories, ('error', 'drop'))
        _one_of('box_source', box_source, ('box', 'mask'))
        _one_of('empty_boxes', empty_boxes, ('error', 'absent'))
        _one_of('on_error', on_error, ('raise', 'skip'))
        self.category_map: str | dict[str, str | None] = (
            category_map if isinstance(category_map, str) else dict(category_map or {})
        )
        self.linked = ImageRoot(img_root, linked).linked  # checked before the file is loaded
        self.videos = None if videos is None else frozenset(videos)
        self.unknown_categories = unknown_categories
        self.box_source = box_source
        self.load_masks = load_masks
        self.empty_boxes = empty_boxes
        self.clip = dict(dict(num_frames=3, frame_range=10), **(clip or {}))
        self.filter_empty = filter_empty
        self.on_error = on_error
        sample_clip_frames(1, **self.clip)  # tells of a wrong argument now, not in a worker
        self.num_skipped = self._skipped_in_a_row = 0
        super().__init__(
            ann_file=ann_file,
            metainfo=None if classes is None else dict(classes=tuple(classes)),
            data_root=data_root,
            data_prefix=dict(img=img_root),
            indices=indices,
            serialize_data=serialize_data,
            pipeline=build_transforms(pipeline),
            test_mode=test_mode,
            lazy_init=lazy_init,
            max_refetch=max_refetch,
        )

    @property
    def image_root(self) -> ImageRoot:
        """What the ``file_names`` start from."""
        return ImageRoot(self.data_prefix['img'], self.linked)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads and checks the annotation file."""
        reader = VideoJsonReader(
            path=str(self.ann_file),
            content=self.read_content(),
            box_source='box' if self.test_mode else self.box_source,
            load_masks=self.load_masks and not self.test_mode,
            empty_boxes=self.empty_boxes,
            need_annotations=not self.test_mode,
        )
        label_of = self._label_categories(reader.categories(), reader.used_categories())
        videos = [self._complete(video) for video in reader.videos()]
        instances = reader.instances(videos, label_of)
        if self.test_mode:
            return videos
        return [dict(video, instances=instances[video['id']]) for video in videos]

    def read_content(self) -> dict[str, Any]:
        """The annotation file in YouTube-VIS layout; other layouts are turned into it here."""
        return read_json(self.ann_file)

    def filter_data(self) -> list[dict[str, Any]]:
        """Leaves out videos that are not asked for, and in training those without annotations.

        Raises:
            AnnotationError: if a video that is asked for is not there, or none is left.
        """
        videos = self._chosen(self.data_list)
        if not self.test_mode and self.filter_empty:
            videos = [video for video in videos if video['instances'].valid.any()]
        if not videos:
            raise AnnotationError(
                f'{self.ann_file}: no video is left to use'
                + ('' if self.test_mode else ', as none has an annotation of the wanted classes')
            )
        return videos

    def landscape(self) -> np.ndarray:
        """(number of items,) bool: whether a video is at least as wide as high."""
        infos = (self.get_data_info(index) for index in range(len(self)))
        return np.array([info['width'] >= info['height'] for info in infos], bool)

    def prepare_data(self, idx: int) -> dict[str, Any] | None:
        """A training clip or a test video; ``None`` where a clip is skipped."""
        info = self.get_data_info(idx)
        if self.test_mode:
            return self._test_item(info)
        try:
            item = self.pipeline(self._clip(info))
        except (FrameError, AnnotationError) as error:
            if self.on_error == 'raise':
                raise
            self._skip(error)
            return None
        self._skipped_in_a_row = 0
        return item

    def _skip(self, error: Exception) -> None:
        self.num_skipped += 1
        self._skipped_in_a_row += 1
        print_log(
            f'{error}; another clip is drawn instead (clip {self.num_skipped} skipped by process '
            f'{os.getpid()})',
            logger='current',
            level=logging.WARNING,
        )
        if self._skipped_in_a_row > self.max_refetch:
            raise FrameError(
                f'{self.ann_file}: {self._skipped_in_a_row} clips in a row cannot be used; the '
                f'last: {error}'
            ) from error

    def _clip(self, info: dict[str, Any]) -> dict[str, Any]:
        frames = sample_clip_frames(len(info['file_names']), **self.clip).tolist()
        return dict(
            img_paths=self._paths(info, frames),
            frame_ids=frames,
            video_id=info['id'],
            video_name=info['name'],
            video_length=len(info['file_names']),
            frame_size=(info['height'], info['width']),
            instances=info['instances'],
            box_source=self.box_source,
            load_masks=self.load_masks,
        )

    def _test_item(self, info: dict[str, Any]) -> dict[str, Any]:
        ori_shape = (info['height'], info['width'])
        frames = VideoFrames(
            self._paths(info, range(len(info['file_names']))),
            self.pipeline.transforms,
            name=info['name'],
            ori_shape=ori_shape,
        )
        sample = TrackDataSample(
            metainfo=dict(
                video_id=info['id'],
                video_name=info['name'],
                video_length=len(info['file_names']),
                ori_shape=ori_shape,
                file_names=info['file_names'],
            )
        )
        return dict(inputs=frames, data_samples=sample)

    def _label_categories(
        self, categories: Mapping[int, str], used: set[int] | None
    ) -> dict[int, int | None]:
        """Label of each category id; writes classes and palette to the meta information."""
        goals = self.category_map
        if isinstance(goals, str):
            goals = dict.fromkeys(categories.values(), goals)
        if 'classes' not in self._metainfo:
            names = (goals.get(name, name) for name in categories.values())
            self._metainfo['classes'] = tuple(dict.fromkeys(n for n in names if n is not None))
        classes = self._metainfo['classes']
        label_of = match_categories(
            categories,
            classes,
            category_map=goals,
            unknown=self.unknown_categories,
            where=str(self.ann_file),
            used=used,
        )
        self._metainfo['palette'] = class_palette(len(classes))
        if self.test_mode:
            # one entry a class; several where classes of the file were merged
            self._metainfo['category_ids'] = tuple(
                tuple(key for key, label in label_of.items() if label == wanted)
                for wanted in range(len(classes))
            )
            # by which the metric knows the ids for those of its own annotation file
            self._metainfo['category_names'] = {
                key: name for key, name in categories.items() if label_of[key] is not None
            }
        return label_of

    def _chosen(self, videos: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if self.videos is None:
            return videos
        names = {video['name'] for video in videos}
        if not self.videos <= names:
            raise AnnotationError(
                f'{self.ann_file}: no video is called {sorted(self.videos - names)} (argument '
                f'videos); it has {sorted(names)}'
            )
        return [video for video in videos if video['name'] in self.videos]

    def _complete(self, video: dict[str, Any]) -> dict[str, Any]:
        """Looks that the first frame is there, and takes the size from it where none is given."""
        where = f'{self.ann_file}: video {video["id"]} ({video["name"]}), frame 0'
        try:
            path = path_below(self.image_root, video['file_names'][0])
        except OutsideError as error:
            raise AnnotationError(f'{where}: {error}') from error
        if not os.path.isfile(path):
            raise FileNotFoundError(f'{where}: {path} not found; check data_root and img_root')
        if video['height'] is not None and video['width'] is not None:
            return video
        try:
            width, height = image_size(path)
        except OSError as error:
            raise FrameError(f'{where}: {error}') from error
        return dict(video, height=height, width=width)

    def _paths(self, info: dict[str, Any], frames: Sequence[int]) -> list[str]:
        paths = []
        for frame in frames:
            try:
                paths.append(path_below(self.image_root, info['file_names'][frame]))
            except OutsideError as error:
                raise FrameError(f'video {info["name"]!r}, frame {frame}: {error}') from error
        return paths


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f'{name} must be one of {allowed}, got {value!r}')
