"""Frames that are missing, unreadable, or of another size than the file tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from mmboxvis.files import OutsideError, StrPath, path_below

from ..image_size import image_size
from ..json_stream import read_annotation_file
from ..video_frames import FrameError, read_frame
from .heads import HeadChecker
from .problems import Problem


def check_frames(
    path: StrPath,
    img_root: StrPath,
    *,
    decode: bool = False,
    num_workers: int = 4,
    on_frame: Callable[[int, int], None] | None = None,
) -> list[Problem]:
    """Looks that every frame's file is there, opens, and has the size that the file tells.

    Where all frames of a video are missing, that is one problem.

    Args:
        path: annotation file in either layout.
        img_root: folder that ``file_names`` are relative to.
        decode: decode each image, as training does, which also finds files that are cut off;
            otherwise only their first bytes are read.
        num_workers: threads.
        on_frame: told how many frames of how many are done.

    Raises:
        FileNotFoundError: if the annotation file is missing.
        AnnotationError: if it is no json object.
    """
    file = read_annotation_file(path)
    quiet = HeadChecker(file, [])  # what is wrong with videos, others note
    quiet.check_videos()
    jobs = [
        (video, frame, name)
        for video in quiet.videos.values()
        for frame, name in enumerate(video['file_names'])
    ]
    found: list[tuple[Problem, Path | None]] = []
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        look = partial(_frame_problem, img_root=img_root, decode=decode)
        results = pool.map(look, jobs, chunksize=64)
        for done, problem in enumerate(results, start=1):
            if problem is not None:
                found.append(problem)
            if on_frame is not None:
                on_frame(done, len(jobs))
    return list(_summed_up(found, Counter(video['id'] for video, _, _ in jobs)))


def _summed_up(
    found: Iterable[tuple[Problem, Path | None]], lengths: Mapping[Any, int]
) -> Iterator[Problem]:
    """The problems, with one for all frames of a video that has none.

    Args:
        found: problems in the order of the frames, and the path of a frame that is missing.
        lengths: number of frames by the id of the video.
    """
    for video, group in groupby(found, key=lambda item: item[0].video):
        problems = list(group)
        path = problems[0][1]
        gone = sum(missing is not None for _, missing in problems)
        if path is None or gone == 1 or gone < lengths[video]:
            yield from (problem for problem, _ in problems)
        else:
            what = f'none of its {gone} images is there, such as {path}; check the image folder'
            yield replace(problems[0][0], what=what, frame=None)


def _frame_problem(
    job: tuple[dict[str, Any], int, str], *, img_root: StrPath, decode: bool
) -> tuple[Problem, Path | None] | None:
    """What is wrong with a frame, and its path if it is missing."""
    video, frame, name = job
    where = dict(video=video['id'], name=video['name'], frame=frame, field='file_names')
    try:
        path = Path(path_below(img_root, name))
    except OutsideError as error:
        return Problem('error', str(error), **where), None
    if not path.is_file():
        return Problem('error', f'{path} not found; check the image folder', **where), path
    try:
        size = read_frame(path).shape[1::-1] if decode else image_size(path)
    except (FrameError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Problem('error', f'{path} cannot be read: {error}', **where), None
    expected = (video['width'], video['height'])
    if None not in expected and tuple(size) != expected:
        what = (
            f'{path} is {size[1]}x{size[0]}, but the file says {expected[1]}x{expected[0]} '
            '(height x width); an EXIF orientation in the image swaps them'
        )
        return Problem('error', what, **where), None
    return None
