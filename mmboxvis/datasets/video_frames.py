"""The frames of a video, decoded one at a time when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from mmboxvis.files import FrameError
from mmboxvis.registry import TRANSFORMS

Transform = Callable[[dict[str, Any]], dict[str, Any] | None]


_JPEG = b'\xff\xd8\xff'
_REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def read_frame(
    path: str | os.PathLike[str], *, video: object = '', frame: int = 0, reduction: int = 1
) -> np.ndarray:
    """Decodes one image file.

    Args:
        path: image file.
        video: name for the message.
        frame: index for the message.
        reduction: 2, 4 or 8 decodes at that part of the size, sides rounded up. Only a JPEG, by
            its content, gets cheaper by it.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        FrameError: if the file is missing, empty, cut off, or is no image.
    """
    where = f'video {video!r}, frame {frame}: {path}'
    if os.path.lexists(path) and not os.path.isfile(path):
        raise FrameError(f'{where} is no file but a folder, a device or a broken link')
    try:
        if reduction == 1:
            image = mmcv.imread(Path(path), flag='color')
        else:
            data = np.frombuffer(Path(path).read_bytes(), np.uint8)
            image = _decode_reduced(data, reduction) if len(data) else None
    except FileNotFoundError as error:
        raise FrameError(f'{where} not found; check data_root, img_root and file_names') from error
    except (OSError, ValueError) as error:
        raise FrameError(f'{where} cannot be read: {error}') from error
    except cv2.error as error:  # an empty file, or more pixels than OpenCV takes
        raise FrameError(
            f'{where} is empty, or not an image; restore the file ({error.err})'
        ) from error
    if image is None:
        raise FrameError(f'{where} is not an image, or is cut off; restore the file')
    return image


def _decode_reduced(data: np.ndarray, reduction: int) -> np.ndarray | None:
    if data[: len(_JPEG)].tobytes() == _JPEG:
        return cv2.imdecode(data, _REDUCED[reduction])
    # a file of another kind, whatever its name: OpenCV would round its sides down
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        return None
    height, width = (-(-side // reduction) for side in image.shape[:2])
    below, right = height * reduction - image.shape[0], width * reduction - image.shape[1]
    image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def build_transforms(transforms: Sequence[Transform | Mapping[str, Any]]) -> list[Transform]:
    """Builds the transforms given as config dicts, with names searched here before mmdet."""
    # transforms that hold others, such as RandomApply, build these from the root's registry
    with DefaultScope.overwrite_default_scope(TRANSFORMS.scope):
        return [TRANSFORMS.build(t) if isinstance(t, Mapping) else t for t in transforms]


class VideoFrames:
    """A lazy sequence of frames, read-only and picklable.

    ``frames[t]`` decodes and transforms frame t anew each time; nothing is kept, so memory does
    not grow with the length of the video. It is deliberately not a
    :class:`collections.abc.Sequence`, which collate functions would walk through.

    Example:
        >>> frames = VideoFrames(paths, [dict(type='Resize', scale=(1333, 360), keep_ratio=True)])
        >>> frames[0].shape, frames.ori_shape
        ((360, 640, 3), (720, 1280))

    Args:
        frames: image paths, or (H, W, 3) uint8 BGR arrays, one a frame, in order.
        transforms: applied to each frame's dict with ``img``, ``img_path``, ``img_shape`` and
            ``ori_shape``, after reading; built ones or config dicts. A leading
            ``LoadImageFromFile`` is left out, as reading is done here.
        name: name of the video for messages.
        ori_shape: (H, W) of the undisturbed frames where it is known; otherwise read from the
            first frame when asked for.
    """

    def __init__(
        self,
        frames: Sequence[str | os.PathLike[str]] | Sequence[np.ndarray],
        transforms: Sequence[Transform | Mapping[str, Any]] = (),
        *,
        name: str = '',
        ori_shape: tuple[int, int] | None = None,
    ) -> None:
        if len(frames) == 0:
            raise ValueError(f'video {name!r} has no frames')
        self._frames = list(frames)
        built = build_transforms(transforms)
        self._transforms = Compose([t for t in built if not isinstance(t, LoadImageFromFile)])
        self.name = name
        self._ori_shape = ori_shape

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> np.ndarray:
        """Decodes frame ``index``.

        Returns:
            (h, w, 3) uint8 BGR after the transforms.

        Raises:
            IndexError: if there is no such frame.
            FrameError: if it cannot be read, or is not as large as the video's other frames.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f'video {self.name!r} has {len(self)} frames, asked for {index}')
        index %= len(self)
        image = self._read(index)
        shape = image.shape[:2]
        if shape != self.ori_shape:
            raise FrameError(
                f'video {self.name!r}, frame {index}: is {shape[0]}x{shape[1]}, but the video is '
                f'{self.ori_shape[0]}x{self.ori_shape[1]} (height x width); all frames of a video '
                'must have its size'
            )
        source = self._frames[index]
        path = None if isinstance(source, np.ndarray) else os.fspath(source)
        results = self._transforms(
            dict(img=image, img_path=path, img_shape=shape, ori_shape=shape, frame_id=index)
        )
        return np.ascontiguousarray(results['img'])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f'VideoFrames({self.name!r}, {len(self)} frames)'

    @property
    def ori_shape(self) -> tuple[int, int]:
        """(H, W) of the frames before the transforms."""
        if self._ori_shape is None:
            height, width = self._read(0).shape[:2]
            self._ori_shape = (height, width)
        return self._ori_shape

    def _read(self, index: int) -> np.ndarray:
        source = self._frames[index]
        if not isinstance(source, np.ndarray):
            return read_frame(source, video=self.name, frame=index)
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
            raise FrameError(
                f'video {self.name!r}, frame {index}: expected an (H, W, 3) uint8 BGR array, got '
                f'{source.shape} {source.dtype}'
            )
        return source
