"""Where the frames of a video come from: files, folders, lists, iterators."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
import tempfile
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from mmboxvis.datasets.video_frames import FrameError, read_frame
from mmboxvis.files import natural_key
from mmboxvis.visualization.video_writer import av

Frame = np.ndarray | str | os.PathLike[str]
Images = Generator[np.ndarray, None, None]
# returns, where the file ended, how many frames there were and whether it broke off within one
CountedImages = Generator[np.ndarray, None, tuple[int, bool] | None]
Source = str | os.PathLike[str] | Sequence[Frame] | Iterable[np.ndarray]

# share by which the number of frames in a header may be wrong, and a length, which sound is in too
_HEADER_SLACK, _LENGTH_SLACK = 0.02, 0.1
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


@dataclass(frozen=True)
class FrameRange:
    """Which frames of a source are used, and how large.

    Attributes:
        start: first frame, counted from 0 in the source.
        end: frame to stop before; ``None`` for the end of the source.
        every: distance of the frames used: 1 takes all, 5 every fifth.
        max_side: frames with a longer side are shrunk to it; ``None`` keeps their size.
    """

    start: int = 0
    end: int | None = None
    every: int = 1
    max_side: int | None = None

    def __post_init__(self) -> None:
        wrong = [
            (self.start < 0, f'start must be at least 0, got {self.start}'),
            (self.every < 1, f'every must be at least 1, got {self.every}'),
            (
                self.end is not None and self.end <= self.start,
                f'end must lie behind start={self.start}, got {self.end}',
            ),
            (
                self.max_side is not None and self.max_side < 1,
                f'max_side must be at least 1, got {self.max_side}',
            ),
        ]
        for is_wrong, message in wrong:
            if is_wrong:
                raise ValueError(message)

    def __str__(self) -> str:
        end = '' if self.end is None else f' to {self.end - 1}'
        step = '' if self.every == 1 else f', every {self.every} frames'
        return f'from frame {self.start}{end}{step}'

    def count(self, available: int | None) -> int | None:
        """Number of frames used of a source of ``available`` frames, ``None`` where unknown."""
        if available is None:
            return None
        end = available if self.end is None else min(self.end, available)
        return max(0, -(-(end - self.start) // self.every))


class FrameSource(ABC):
    """The frames of one video, read one by one whenever they are asked for.

    Attributes:
        name: for messages and results.
        range: which of the frames are used.
        fps: frames used per second of the video, ``None`` where unknown.
        num_frames: number of frames used, ``None`` where it shows only at the end; an estimate
            for video files.
        cut_off: of a video file that ends before its header says, once its end was met: how many
            frames it has, and how many the header tells of; else ``None``.
    """

    def __init__(
        self, name: str, range_: FrameRange, *, available: int | None, fps: float | None = None
    ) -> None:
        self.name = name
        self.range = range_
        self.fps = None if fps is None else fps / range_.every
        self.num_frames = range_.count(available)
        self.cut_off: tuple[int, int] | None = None

    def frames(self, first: int = 0) -> Images:
        """Reads the frames used.

        Args:
            first: number of the frame to begin with, among the frames used.

        Yields:
            (H, W, 3) uint8 BGR, all of one size.

        Raises:
            FrameError: where a frame cannot be read or has another size than the one before.
        """
        start = self.range.start + first * self.range.every
        shape: tuple[int, ...] | None = None
        with closing(self._read(start, self.range.end, self.range.every)) as images:
            for index, image in enumerate(images, first):
                self._check(image, index, shape)
                shape = image.shape
                yield self._shrink(image)

    @abstractmethod
    def _read(self, start: int, end: int | None, every: int) -> Images:
        """Yields the frames ``start``, ``start + every``, ... before ``end`` of the source."""

    def identity(self) -> str | None:
        """What tells the source from others and from later versions of itself, if anything."""
        return None

    def _check(self, image: Any, index: int, shape: tuple[int, ...] | None) -> None:
        where = f'video {self.name!r}, frame {index}'
        is_image = isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3
        if not is_image or image.dtype != np.uint8 or not image.size:
            got = f'{image.shape} {image.dtype}' if isinstance(image, np.ndarray) else type(image)
            raise FrameError(f'{where}: expected an (H, W, 3) uint8 BGR array, got {got}')
        if shape is not None and image.shape != shape:
            raise FrameError(
                f'{where}: is {image.shape[1]}x{image.shape[0]}, the frames before it '
                f'{shape[1]}x{shape[0]} (width x height); all frames of a video must have its size'
            )

    def _shrink(self, image: np.ndarray) -> np.ndarray:
        limit, (height, width) = self.range.max_side, image.shape[:2]
        if limit is None or max(height, width) <= limit:
            return image
        scale = limit / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


class ImageListSource(FrameSource):
    """Frames that lie apart: image files or arrays."""

    def __init__(self, frames: Sequence[Frame], name: str, range_: FrameRange) -> None:
        super().__init__(name, range_, available=len(frames))
        self._frames = frames

    def _read(self, start: int, end: int | None, every: int) -> Images:
        stop = len(self._frames) if end is None else min(end, len(self._frames))
        for index in range(start, stop, every):
            frame = self._frames[index]
            if isinstance(frame, str | os.PathLike):
                frame = read_frame(frame, video=self.name, frame=index)
            yield frame

    def identity(self) -> str | None:
        """Paths, sizes and times of the files; ``None`` where there are arrays among them."""
        digest = hashlib.sha256()
        for frame in self._frames:
            if not isinstance(frame, str | os.PathLike):
                return None
            digest.update(_file_identity(Path(frame)).encode())
        return digest.hexdigest()


class VideoFileSource(FrameSource):
    """A file that holds a video: mp4, webm, mkv, mov, avi, gif, ...

    Decoded by PyAV where it is installed, which turns frames as a phone's mark of rotation asks;
    else by OpenCV. A file that ends long before its header says, or within a frame, gives a warning
    at its end.
    """

    def __init__(self, path: Path, range_: FrameRange) -> None:
        self.path = path
        self._available, fps = (_probe_av if av is not None else _probe_cv2)(path)
        super().__init__(path.stem, range_, available=self._available, fps=fps)

    def _read(self, start: int, end: int | None, every: int) -> Images:
        read = _read_av if av is not None else _read_cv2
        ended = yield from read(self.path, start, end, every)
        if ended is None:
            return
        came, is_broken = ended
        told = f'its header tells of {self._available}'
        if self._available is None:
            if not is_broken:
                return
            told = 'its last frame is not whole'
        elif is_broken and came >= self._available:
            told = 'what follows them is not whole'
        else:
            wanted = self._available if end is None else min(end, self._available)
            # headers may be off by a frame, and by a few in a long video
            if not is_broken and wanted - came <= max(1, _HEADER_SLACK * wanted):
                return
            self.cut_off = came, self._available
        warnings.warn(
            f'{self.path}: ends after {came} frames, but {told}; was it copied or downloaded '
            'completely?',
            stacklevel=2,
        )

    def identity(self) -> str:
        """Path, size and time of the file."""
        return _file_identity(self.path)


class IteratorSource(FrameSource):
    """Frames that come once, from a camera or a program; there may be no end to them.

    They are written to a temporary file on disk as they pass, so that they can be drawn over
    afterwards, until they fill the room they have.

    Args:
        frames: (H, W, 3) uint8 BGR each.
        name: see :class:`FrameSource`.
        range_: see :class:`FrameSource`.
        cache_bytes: room on disk; 0 keeps none.
    """

    def __init__(
        self, frames: Iterable[np.ndarray], name: str, range_: FrameRange, *, cache_bytes: int
    ) -> None:
        super().__init__(name, range_, available=None)
        self._frames: Iterator[np.ndarray] | None = iter(frames)
        self._cache = FrameCache(cache_bytes)

    def frames(self, first: int = 0) -> Images:
        """Reads the frames the first time, and what was kept of them the next.

        Raises:
            FrameError: the second time, where there was no room for all of them.
        """
        if self._frames is None:
            return self._cache.frames(first, self.name)
        return self._first_time(super().frames(first))

    def _first_time(self, images: Images) -> Images:
        for image in images:
            self._cache.add(image)
            yield image

    def _read(self, start: int, end: int | None, every: int) -> Images:
        frames, self._frames = self._frames, None
        assert frames is not None
        for frame in itertools.islice(frames, start, end, every):
            # cameras and decoders may write the next frame into the same memory, and it is read
            # ahead
            yield frame.copy() if isinstance(frame, np.ndarray) else frame


class FrameCache:
    """Frames on disk, as JPEG in one temporary file that goes away with this object."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        # without a buffer, so that a full disk shows when a frame is written; lives as long as this
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._ends: list[int] = [0]
        self._lock = threading.Lock()
        self.is_full = False

    def add(self, image: np.ndarray) -> None:
        """Keeps a frame, or drops them all when the room is used up.

        That of the disk may be used up as well, which gives a warning.
        """
        if self.is_full:
            return
        content = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
        with self._lock:
            if self._ends[-1] + len(content) > self.max_bytes:
                self._drop()
                return
            try:
                self._file.seek(self._ends[-1])
                if self._file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._drop()
                warnings.warn(
                    f'the frames of an iterator are kept no longer: {error.strerror} in '
                    f'{tempfile.gettempdir()}; hand them in again to draw over them',
                    stacklevel=2,
                )
                return
            self._ends.append(self._ends[-1] + len(content))

    def _drop(self) -> None:
        self.is_full = True
        with suppress(OSError):
            self._file.truncate(0)

    def frames(self, first: int, name: str) -> Images:
        """Reads the frames back, almost as they were."""
        if self.is_full:
            raise FrameError(
                f'video {name!r}: its frames came from an iterator and were too many to keep '
                f'(at most {self.max_bytes} bytes, and what the disk has room for); hand them in '
                'again, or raise the limit'
            )
        return self._decoded(first)

    def _decoded(self, first: int) -> Images:
        for begin, end in itertools.pairwise(self._ends[first:]):
            with self._lock:
                self._file.seek(begin)
                content = self._file.read(end - begin)
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            yield image


def open_source(
    source: Source, range_: FrameRange | None = None, *, cache_bytes: int = 2**30
) -> FrameSource:
    """Finds out what a source is and gets it ready to read.

    Args:
        source: a video file; a folder of images, taken in natural order of their names (``2.jpg``
            before ``10.jpg``); an image file; a sequence of image paths or (H, W, 3) uint8 BGR
            arrays; or any other iterable of such arrays, which is read once, and ahead.
        range_: which frames; all by default.
        cache_bytes: see :class:`IteratorSource`.

    Raises:
        FileNotFoundError: where there is no such file or folder.
        FrameError: where a file is no video, or a folder holds no images.
        TypeError: where it is nothing of this kind.
    """
    range_ = range_ or FrameRange()
    if isinstance(source, str | os.PathLike):
        return _open_path(Path(source), range_)
    if isinstance(source, np.ndarray) and source.ndim != 4:
        raise TypeError(
            f'an array of shape {source.shape} is no video; expected (V, H, W, 3) uint8 BGR, or '
            'a list of images'
        )
    if isinstance(source, FrameSource):
        raise TypeError('the source is open already; give what it was opened from')
    if hasattr(source, '__len__') and hasattr(source, '__getitem__'):
        frames = cast(Sequence[Frame], source)
        if not len(frames):
            raise FrameError('the list of frames is empty')
        return ImageListSource(frames, 'frames', range_)
    if isinstance(source, Iterable):
        return IteratorSource(source, 'frames', range_, cache_bytes=cache_bytes)
    raise TypeError(
        'expected a video file, a folder, a list of images or an iterator of (H, W, 3) uint8 '
        f'arrays, got {type(source).__name__}'
    )


def _open_path(path: Path, range_: FrameRange) -> FrameSource:
    if path.is_dir():
        files = sorted(
            # names with a dot in front are not for people: macOS leaves ._1.jpg beside 1.jpg
            (
                file
                for file in path.iterdir()
                if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith('.')
            ),
            key=lambda file: natural_key(file.name),
        )
        if not files:
            raise FrameError(
                f'{path}: no images in this folder (looked for {", ".join(IMAGE_SUFFIXES)}); give '
                'the folder that holds the frames of one video'
            )
        return ImageListSource(files, path.resolve().name, range_)
    if not path.exists():
        raise FileNotFoundError(f'{path}: no such file or folder; expected a video or its frames')
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImageListSource([path], path.stem, range_)
    return VideoFileSource(path, range_)


def _file_identity(path: Path) -> str:
    stat = path.stat()
    return f'{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}'


# ------------------------------------------------------------------ video files


def _probe_av(path: Path) -> tuple[int | None, float | None]:
    """Number of frames, if the file tells, and frames per second."""
    with _open_av(path) as container:
        stream = container.streams.video[0]
        fps = float(stream.average_rate) if stream.average_rate else None
        frames = stream.frames or None
        if frames is None and container.duration and fps:
            frames = max(1, round(container.duration / av.time_base * fps))
        return frames, fps


def _open_av(path: Path) -> Any:
    try:
        # a name like 12:30.mp4 would be taken for an address
        container = av.open(os.path.abspath(path))
    except (av.FFmpegError, OSError) as error:
        raise FrameError(
            f'{path} cannot be opened as a video ({error}); is it a video file, and complete?'
        ) from error
    if not container.streams.video:
        container.close()
        raise FrameError(f'{path} has no video stream, only sound or data')
    return container


def _read_av(path: Path, start: int, end: int | None, every: int) -> CountedImages:
    index, time = -1, None
    with _open_av(path) as container:
        frames = _DecodedFrames(container)
        try:
            for index, frame in enumerate(frames):
                time = frame.time
                if index >= start and (index - start) % every == 0:
                    image = frame.to_ndarray(format='bgr24')
                    turns = round(frame.rotation / 90) % 4
                    yield np.ascontiguousarray(np.rot90(image, turns)) if turns else image
                if index + 1 == end:
                    return None
            if frames.error is not None and index < 0:
                raise frames.error
        except av.FFmpegError as error:
            came = index + 1
            way = f'take the first {came} (end={came}, or --end {came}), or ' if came else ''
            raise FrameError(
                f'{path}: decoding broke off behind frame {max(index, 0)} ({error}); the file is '
                f'damaged there; {way}convert or restore the file'
            ) from error
        if frames.error is not None:
            return index + 1, True
        return None if _is_at_end(container, time) else (index + 1, False)


class _DecodedFrames:
    """The frames of a container, to the end of its data even where that lies within a frame.

    Attributes:
        error: that of the end, where a part of a frame stands there; raised instead where sound
            frames follow, as then the damage lies inside the video.
    """

    def __init__(self, container: Any) -> None:
        self.error: Exception | None = None
        self._container = container

    def __iter__(self) -> Iterator[Any]:
        # the last packet is empty and drains the decoder
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                self.error = self.error or error
                continue
            if self.error is not None and packet.size:
                raise self.error
            yield from frames

    def _packets(self) -> Iterator[Any]:
        try:
            yield from self._container.demux(video=0)
        except av.FFmpegError as error:
            self.error = self.error or error
            # what comes next tells whether the data end here; the decoder has to be drained anyway
            try:
                yield from self._container.demux(video=0)
            except av.FFmpegError:
                empty = av.Packet()
                empty.stream = self._container.streams.video[0]
                yield empty


def _is_at_end(container: Any, time: float | None) -> bool:
    """Whether a frame at this time is the last, though the header may tell of more frames.

    It may where their number is an estimate (frames are of different lengths), in mp4 and mov
    where a list of cuts hides some, and in avi, which counts dropped frames that nothing is stored
    of. Elsewhere the number is better than the length, which FFmpeg estimates for a file that is
    cut off.
    """
    stream = container.streams.video[0]
    hides = stream.frames == 0 or any(name in container.format.name for name in ('mov', 'avi'))
    if not hides or time is None:
        return False
    length = stream.duration * stream.time_base if stream.duration else None
    if length is None and container.duration:
        length = container.duration / av.time_base
    begin = (stream.start_time or 0) * stream.time_base
    if length is None:
        return False
    slack = (_HEADER_SLACK if stream.duration else _LENGTH_SLACK) * length
    one_frame = 1 / stream.average_rate if stream.average_rate else 0
    return time - begin + one_frame >= length - slack


def _probe_cv2(path: Path) -> tuple[int | None, float | None]:
    capture = _open_cv2(path)
    try:
        frames, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        return int(frames) if frames > 0 else None, fps if fps > 0 else None
    finally:
        capture.release()


def _open_cv2(path: Path) -> cv2.VideoCapture:
    capture = cv2.VideoCapture(os.path.abspath(path))
    if not capture.isOpened():
        raise FrameError(
            f'{path} cannot be opened as a video; is it a video file, and complete? '
            "(PyAV reads more formats: 'pip install av')"
        )
    return capture


def _read_cv2(path: Path, start: int, end: int | None, every: int) -> CountedImages:
    capture = _open_cv2(path)
    try:
        for index in itertools.count() if end is None else range(end):
            if not capture.grab():
                return index, False
            if index >= start and (index - start) % every == 0:
                yield capture.retrieve()[1]
        return None
    finally:
        capture.release()
