"""Streamed video files that browsers play."""

from __future__ import annotations

import errno
import importlib
import os
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from mmboxvis.files import StrPath, whole_file


def _import_av() -> Any:
    try:
        return importlib.import_module('av')
    except ImportError:
        return None


av = _import_av()
_ENCODERS = ('libx264', 'libopenh264')
# outside of these files hold another speed, or none
_MIN_FPS, _MAX_FPS = 0.002, 1e5
# what goes wrong with the file, not with the frames
_FILE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENAMETOOLONG),
)


def write_video(path: StrPath, frames: Iterable[np.ndarray], fps: float = 8) -> Path:
    """Writes frames to a video file as they come; the file appears when it is complete.

    An mp4 is H.264 (yuv420p, index at the front), which every browser plays, when PyAV
    (``pip install av``) is there; else OpenCV's mp4v with a warning. H.264 wants even sides: an
    odd frame gets its last row or column repeated. A gif is kept in memory until the end.

    Args:
        path: ``.mp4`` or ``.gif``; missing folders are made.
        frames: (H, W, 3) uint8 BGR, all of one size, at least one.
        fps: frames per second, from 0.002 to 100000.

    Returns:
        ``path``.

    Raises:
        ValueError: unknown suffix, no frame, ``fps`` out of range, or a frame of another shape or
            dtype than the first.
        OSError: the file cannot be written, no encoder could be opened, or it does not take frames
            of this size.
    """
    path = Path(path)
    if path.suffix.lower() not in ('.mp4', '.gif'):
        raise ValueError(f'{path}: videos are written as .mp4 or .gif, not {path.suffix!r}')
    if not _MIN_FPS <= fps <= _MAX_FPS:
        raise ValueError(f'{path}: fps must be from {_MIN_FPS:g} to {_MAX_FPS:g}, got {fps}')
    checked = _checked(frames, path)
    first = next(checked, None)
    if first is None:
        raise ValueError(f'{path}: no frame to write')
    checked = chain([first], checked)
    with whole_file(path) as temporary:
        if path.suffix.lower() == '.gif':
            _write_gif(temporary, checked, fps)
        elif av is not None and (encoder := _encoder()) is not None:
            try:
                _write_h264(temporary, checked, fps, encoder)
            except av.FFmpegError as error:
                if error.errno in _FILE_ERRORS:
                    raise OSError(f'{path} cannot be written: {error.strerror}') from error
                height, width = first.shape[:2]
                raise OSError(
                    f'{path}: {encoder} cannot encode frames of {width}x{height} pixels: {error}'
                ) from error
        else:
            warnings.warn(
                f'{path}: written as MPEG-4 Part 2, which browsers do not play; '
                "install PyAV ('pip install av') for H.264",
                stacklevel=2,
            )
            _write_mp4v(temporary, checked, fps)
    return path


def _encoder() -> str | None:
    return next((name for name in _ENCODERS if name in av.codecs_available), None)


def _checked(frames: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    shape: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8 or not frame.size:
            raise ValueError(
                f'{path}: frame {index} is {frame.shape} {frame.dtype}, '
                'expected (H, W, 3) uint8 BGR'
            )
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(
                f'{path}: frame {index} is {frame.shape[:2]}, the first was {shape[:2]}; '
                'resize the frames of a video to one size'
            )
        yield frame


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
    return np.ascontiguousarray(frame)


def _write_h264(path: Path, frames: Iterable[np.ndarray], fps: float, encoder: str) -> None:
    rate = Fraction(fps).limit_denominator(1001)
    options = {'crf': '23', 'preset': 'medium'} if encoder == 'libx264' else {}
    # FFmpeg would take a name like 12:30.mp4 for an address
    with av.open(os.path.abspath(path), 'w', options={'movflags': '+faststart'}) as container:
        stream = container.add_stream(encoder, rate=rate, options=options)
        stream.pix_fmt = 'yuv420p'
        stream.width = stream.height = 0
        for frame in map(_even, frames):
            if not stream.width:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format='bgr24')
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def _write_mp4v(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    writer: cv2.VideoWriter | None = None
    try:
        for frame in map(_even, frames):
            if writer is None:
                height, width = frame.shape[:2]
                fourcc = cv2.VideoWriter.fourcc(*'mp4v')
                writer = cv2.VideoWriter(os.path.abspath(path), fourcc, fps, (width, height))
                if not writer.isOpened():
                    raise OSError(f'{path}: OpenCV could not open its mp4v encoder')
            writer.write(frame)
    finally:
        if writer is not None:
            writer.release()


def _write_gif(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    pictures = (Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)) for frame in frames)
    next(pictures).save(
        path, save_all=True, append_images=pictures, duration=round(1000 / fps), loop=0
    )
