"""Video files: their size and rate, and the frames that annotations belong to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import av
import av.error
import cv2
import numpy as np

from mmboxvis.files import FrameError, StrPath, path_below, whole_files
from mmboxvis.run_lengths import MAX_PIXELS

from ..image_size import image_size
from .box_set import BoxSet, ReadOptions, Video, VideoDraft, pictures_of
from .place import AnnotationError, Place

JPEG_QUALITY = 95


@dataclass(frozen=True)
class MovieInfo:
    """What a video file tells about itself.

    Attributes:
        width: in pixels, as it is shown.
        height: likewise.
        fps: average rate, ``None`` where the file does not tell.
    """

    width: int
    height: int
    fps: float | None


def probe(path: Path) -> MovieInfo:
    """Looks at the first frame of a video file.

    Raises:
        FileNotFoundError: if it is missing.
        AnnotationError: if it is no video.
    """
    with _frames(path) as (stream, frames):
        rate = stream.average_rate
        first = next(frames, None)
        if first is None:
            raise AnnotationError(f'{path}: has no frame')
        height, width = _upright(first).shape[:2]
        return MovieInfo(width, height, float(rate) if rate else None)


def movie_of(
    movies: tuple[tuple[str | None, Path], ...], video: str, *, only: bool = True
) -> Path | None:
    """The video file of a video: the one given by name, else the one whose stem is its name.

    Args:
        movies: names of videos, or ``None``, and files.
        video: its name.
        only: whether a single file without a name belongs to any video.
    """
    last = PurePosixPath(video).name
    for matches in (lambda n, _: n == video, lambda n, p: n is None and p.stem in (video, last)):
        for name, path in movies:
            if matches(name, path):
                return path
    if only and len(movies) == 1 and movies[0][0] is None:
        return movies[0][1]
    return None


def need_size(
    draft: VideoDraft, options: ReadOptions, place: Place, *, only: bool
) -> tuple[int, int]:
    """Width and height of a video whose boxes are shares of the frame.

    Args:
        draft: the video; takes the size if it had none.
        options: where the size may come from: ``size``, which the draft has already, ``images``,
            ``movies``.
        place: for the message.
        only: whether the source has no other video; a file without a name may then be its.

    Raises:
        AnnotationError: if the user gave none of them.
    """
    video = _with_size(draft.video, options, only=only and options.single)
    if video.width is None or video.height is None:
        place.fail(
            f'the boxes of video {video.name!r} are shares of the frame, whose size is not in the '
            'file; give it with --size WIDTH HEIGHT, or give --images or --video to read it from '
            f'(--video {video.name}=FILE, if the file is not called like the video)'
        )
    draft.video = video
    return video.width, video.height


def fill_sizes(boxes: BoxSet, options: ReadOptions) -> BoxSet:
    """The set with the sizes that its source lacks, as far as images or movies are given.

    Raises:
        AnnotationError: if an image or a movie cannot be read.
        FileNotFoundError: if it is missing.
    """
    only = len(boxes.videos) == 1
    videos = tuple(_with_size(video, options, only=only) for video in boxes.videos)
    used = {movie_of(options.movies, video.name, only=only) for video in videos}
    notes = dict(boxes.notes)
    for name, path in options.movies:
        if path not in used:
            given = str(path) if name is None else f'{name}={path}'
            notes[f'video file that belongs to no video, give it as NAME=FILE: {given}'] = 1
    return replace(boxes, videos=videos, notes=notes)


def _with_size(video: Video, options: ReadOptions, *, only: bool) -> Video:
    """The video with its size, if it has one or if an image or a movie tells."""
    if video.width is not None and video.height is not None:
        return video
    movie = movie_of(options.movies, video.name, only=only)
    if options.images is not None:
        width, height = _image_size(options, video)
    elif movie is not None:
        info = probe(movie)
        width, height = info.width, info.height
    else:
        return video
    return replace(video, width=width, height=height)


def _image_size(options: ReadOptions, video: Video) -> tuple[int, int]:
    """Width and height of the first image of a video, below ``options.images``."""
    path = Path(path_below(options.images or '', video.file_names[0]))
    try:
        return image_size(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f'{path} not found; check --images and --names') from error
    except FrameError as error:
        raise AnnotationError(str(error)) from error


def check_images(boxes: BoxSet, root: StrPath) -> None:
    """Looks that all images that a set names are there.

    Args:
        boxes: the set.
        root: folder that ``file_names`` are relative to.

    Raises:
        FileNotFoundError: if one is missing.
        OutsideError: if one leads out of the folder.
    """
    for video in boxes.videos:
        gone = [name for name in video.file_names if not Path(path_below(root, name)).is_file()]
        if gone:
            raise FileNotFoundError(
                f'{len(gone)} of {len(video.file_names)} images of video {video.name!r} not found '
                f'below {root}, such as {gone[0]}; check --images and --names'
            )


def frames_in_movie(video: Video, *, step: int = 1) -> dict[int, str]:
    """Index in its file of each annotated frame, and the name that the image gets.

    Raises:
        AnnotationError: if frames have no number, or one ahead of the first.
    """
    if not video.numbered:
        raise AnnotationError(
            f'video {video.name!r}: nothing tells which frames of the video file its images are: '
            'their names have no numbers at the end that rise (walk_0010.jpg is frame 10), as '
            f'{video.file_names[0]!r}; use the images themselves instead of --frames'
        )
    pictures = pictures_of(video.numbers, video.first_number, video.name, step=step)
    return dict(zip(pictures, video.file_names, strict=True))


def extract_frames(
    video: Video, movie: Path, root: Path, *, step: int = 1, overwrite: bool = False
) -> None:
    """Writes the frames that are annotated, under the names that the annotation gives them.

    Annotated frame n is frame ``(n - first_number) * step`` of the file, in the order in which
    frames are shown. All of them appear together, or none.

    Args:
        video: which frames, and where they go.
        movie: the video file.
        root: folder that ``video.file_names`` are relative to.
        step: frames of the file from one number to the next.
        overwrite: whether images may be replaced.

    Raises:
        AnnotationError: if the file is no video, is too short, or has frames of another size than
            the annotation, or if the numbers of the frames are not known.
        FileExistsError: if an image exists already.
    """
    wanted = frames_in_movie(video, step=step)
    size = (video.width, video.height)
    last = max(wanted)
    with (
        whole_files(root, list(video.file_names), overwrite=overwrite) as draft,
        _frames(movie) as (_, frames),
    ):
        count = 0
        for frame in frames:
            if count in wanted:
                image = _upright(frame)
                found = image.shape[1::-1]
                if any(a is not None and a != b for a, b in zip(size, found, strict=True)):
                    raise AnnotationError(
                        f'{movie}: frames of {found[0]} x {found[1]} pixels, but video '
                        f'{video.name!r} was annotated at {size[0]} x {size[1]}; is it the file '
                        'that was annotated?'
                    )
                _write_image(draft / wanted[count], image)
            count += 1
            if count > last:
                return
        raise AnnotationError(
            f'{movie}: has {count} frames, but video {video.name!r} is annotated up to frame '
            f'{last} (counted from 0); is it the file that was annotated?'
        )


@contextmanager
def _frames(path: Path) -> Iterator[tuple[av.VideoStream, Iterator[av.VideoFrame]]]:
    if not path.is_file():
        raise FileNotFoundError(f'video file {path} not found')
    try:
        # FFmpeg would take a name like 12:30.mp4 for an address
        with av.open(os.path.abspath(path)) as container:
            if not container.streams.video:
                raise AnnotationError(f'{path}: has no pictures')
            stream = container.streams.video[0]
            if stream.width * stream.height > MAX_PIXELS:
                raise AnnotationError(f'{path}: frames of {stream.width} x {stream.height} pixels')
            yield stream, container.decode(stream)
    except av.error.FFmpegError as error:
        raise AnnotationError(f'{path}: cannot be decoded: {error}') from error


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """(H, W, 3) uint8 BGR, turned as players show it."""
    image = frame.to_ndarray(format='bgr24')
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90) % 4))


def _write_image(path: Path, image: np.ndarray) -> None:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if path.suffix.lower() != '.png' else []
    try:
        good = cv2.imwrite(str(path), image, parameters)
    except cv2.error:
        good = False
    if not good:
        raise AnnotationError(f'{path.name}: cannot be written; frame names end in .jpg or .png')
