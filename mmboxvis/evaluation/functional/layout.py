"""YouTube-VIS files: reading them and saying what is wrong with them.

V is the number of frames of a video. Every message names the file (or what was passed in its
place), the entry's index, the field, and what was expected.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mmboxvis.files import shown

from .rle import run_totals

Source = str | os.PathLike
Entry = dict[str, Any]
IouType = Literal['segm', 'box']

SUBMISSION_NAME = 'results.json'
# entries whose run-lengths are read together: bounds the memory
_CHUNK = 256
_MAX_BYTES = 4 * 1024**3


@dataclass(frozen=True)
class VideoInfo:
    """A video of the ground truth: its V frames have one (height, width)."""

    id: int
    name: str
    size: tuple[int, int]
    num_frames: int


# where the track is found, the frame, its run-length, and the video
PlacedMask = tuple[str, int, Entry, VideoInfo]


@dataclass(frozen=True)
class GroundTruth:
    """A YouTube-VIS annotation file.

    Attributes:
        source: path of the file, or what stands for it in messages.
        videos: by id, in ascending order.
        categories: name by id, in the order of the file.
        annotations: as in the file, ``None`` where the file withholds them.
    """

    source: str
    videos: dict[int, VideoInfo]
    categories: dict[int, str]
    annotations: list[Entry] | None

    def only(self, names: Collection[str]) -> GroundTruth:
        """The part of the file that is about the videos with these names.

        Raises:
            ValueError: if there is no such video.
        """
        known = {video.name for video in self.videos.values()}
        if not set(names) <= known:
            lost = sorted(set(names) - known)
            raise ValueError(f'{self.source}: no video is called {lost}; it has {sorted(known)}')
        videos = {key: video for key, video in self.videos.items() if video.name in names}
        left_out = self.videos.keys() - videos.keys()
        # an entry that cannot be read stays, and is complained of where it is used
        annotations = self.annotations and [
            entry
            for entry in self.annotations
            if not isinstance(entry, dict) or entry.get('video_id') not in left_out
        ]
        return replace(self, videos=videos, annotations=annotations)


def load_json(path: Source) -> Any:
    """Reads a json file, or a zip with ``results.json`` (or one json file only) in it.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it cannot be read as json.
    """
    path = Path(path)
    if not path.is_file():
        what = 'is a folder; give the json file in it' if path.is_dir() else 'no such file'
        raise FileNotFoundError(f'{path}: {what}')
    content = _archived(path) if zipfile.is_zipfile(path) else path.read_bytes()
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError(f'{path}: not valid json (nested too deeply)') from error
    except ValueError as error:
        raise ValueError(
            f'{path}: not valid json ({error}); was the file written completely?'
        ) from error


def _archived(path: Path) -> bytes:
    """The json file in a zip archive, of a size that can be."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo(_json_member(archive, path))
            if member.file_size > _MAX_BYTES:
                raise ValueError(f'{path}: {member.filename} unfolds to {member.file_size} bytes')
            return archive.read(member)
    # a password, an unknown method, a checksum that is wrong
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f'{path}: the archive cannot be read ({error}); pack it anew') from error


def _json_member(archive: zipfile.ZipFile, path: Path) -> str:
    names = archive.namelist()
    if SUBMISSION_NAME in names:
        return SUBMISSION_NAME
    candidates = [name for name in names if name.endswith('.json')]
    if len(candidates) != 1:
        raise ValueError(f'{path}: expected {SUBMISSION_NAME} in the archive, it holds {names}')
    return candidates[0]


def is_int(value: Any) -> bool:
    """Whether a value is a whole number, numpy's included and ``bool`` left out."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _require(entry: Any, fields: Sequence[str], where: str) -> None:
    if not isinstance(entry, dict):
        raise ValueError(f'{where}: expected an object, got {type(entry).__name__}')
    for field in fields:
        if entry.get(field) is None:
            raise ValueError(
                f'{where}: field {field!r} is missing, found {", ".join(map(str, entry))}'
            )


def _read_video(entry: Any, where: str) -> VideoInfo:
    _require(entry, ('id', 'height', 'width'), where)
    files = entry.get('file_names') or [str(entry['id'])]
    if not isinstance(files, list):
        raise ValueError(f"{where}: field 'file_names' must be a list, got {type(files).__name__}")
    length = entry.get('length', len(entry.get('file_names') or ()))
    if not is_int(entry['id']):
        raise ValueError(f"{where}: field 'id' must be a whole number, got {shown(entry['id'])}")
    for field, value in dict(height=entry['height'], width=entry['width'], length=length).items():
        if not is_int(value) or not 1 <= value < 2**31:
            raise ValueError(
                f'{where}: field {field!r} must be a positive whole number, got {shown(value)}'
            )
    name = str(entry.get('name') or Path(str(files[0])).parent)
    name = name if name != '.' else str(entry['id'])
    return VideoInfo(int(entry['id']), name, (int(entry['height']), int(entry['width'])), length)


def read_videos(entries: Any, source: str = 'videos') -> dict[int, VideoInfo]:
    """Reads the ``videos`` of an annotation file into a dict by id, in ascending order.

    Raises:
        ValueError: if a field is missing or wrong, or an id occurs twice.
    """
    if not isinstance(entries, list):
        raise ValueError(f"{source}: field 'videos' must be a list, got {type(entries).__name__}")
    videos: dict[int, VideoInfo] = {}
    for index, entry in enumerate(entries):
        video = _read_video(entry, f'{source}: videos[{index}]')
        if video.id in videos:
            raise ValueError(f'{source}: videos[{index}]: id {shown(video.id)} is taken already')
        videos[video.id] = video
    return dict(sorted(videos.items()))


def read_ground_truth(gt: Source | Mapping[str, Any] | GroundTruth) -> GroundTruth:
    """Reads an annotation file; the annotations themselves are looked at when they are used.

    Args:
        gt: path, loaded json, or an outcome of this function, which is handed back.

    Raises:
        ValueError: if ``videos`` or ``categories`` are missing or wrong.
    """
    if isinstance(gt, GroundTruth):
        return gt
    source = str(gt) if isinstance(gt, Source) else 'ground truth'
    data = load_json(gt) if isinstance(gt, Source) else gt
    if not isinstance(data, Mapping) or not {'videos', 'categories'} <= data.keys():
        found = f'a list of {len(data)}' if isinstance(data, list) else type(data).__name__
        found = ', '.join(map(str, data)) if isinstance(data, Mapping) else found
        raise ValueError(
            f"{source}: expected an object with 'videos', 'categories' and 'annotations' "
            f'(YouTube-VIS layout), got {found}'
        )
    if not isinstance(data['categories'], list | None):
        raise ValueError(f"{source}: field 'categories' must be a list")
    categories: dict[int, str] = {}
    for index, entry in enumerate(data['categories'] or ()):
        where = f'{source}: categories[{index}]'
        _require(entry, ('id', 'name'), where)
        if not is_int(entry['id']) or entry['id'] in categories:
            raise ValueError(
                f"{where}: 'id' must be a whole number of its own, got {shown(entry['id'])}"
            )
        categories[int(entry['id'])] = str(entry['name'])
    annotations = data.get('annotations')
    if not isinstance(annotations, list | None):
        raise ValueError(f"{source}: field 'annotations' must be a list or null")
    return GroundTruth(source, read_videos(data['videos'], source), categories, annotations)


def read_results(results: Source | Sequence[Entry]) -> tuple[list[Entry], str]:
    """Reads a result file.

    Args:
        results: path of a json or zip file, or the loaded list.

    Returns:
        The list, and what to call it in messages.

    Raises:
        ValueError: if it is no list.
    """
    source = str(results) if isinstance(results, Source) else 'results'
    data = load_json(results) if isinstance(results, Source) else results
    if not isinstance(data, list | tuple):
        keys = f' with {", ".join(map(str, data))}' if isinstance(data, dict) else ''
        raise ValueError(
            f'{source}: expected a list of tracks with video_id, category_id, score and '
            f'segmentations, got {type(data).__name__}{keys}'
        )
    return list(data), source


def _head_problem(
    entry: Any, videos: Mapping[int, VideoInfo], categories: Collection[int] | None
) -> str | None:
    """What is wrong with video, category or score of a result."""
    if not isinstance(entry, dict):
        return f'expected an object, got {type(entry).__name__}'
    for field in ('video_id', 'category_id', 'score'):
        if field not in entry:
            return f'field {field!r} is missing, found {", ".join(map(str, entry))}'
    for field in ('video_id', 'category_id'):
        if not is_int(entry[field]):
            return f'field {field!r}: expected a whole number, got {shown(entry[field])}'
    video_id, category_id, score = entry['video_id'], entry['category_id'], entry['score']
    if video_id not in videos:
        return (
            f"field 'video_id': {shown(int(video_id))} is no video of the ground truth, which has "
            f'{_shown_ids(videos)}'
        )
    if categories is not None and category_id not in categories:
        return (
            f"field 'category_id': {shown(int(category_id))} is no category of the ground truth, "
            f'which has {_shown_ids(categories)}'
        )
    if categories is None and category_id < 1:
        return f"field 'category_id': {shown(category_id)}, ids start at 1"
    if not is_finite(score):
        return f"field 'score': expected a finite number, got {shown(score)}"
    return None


def _shown_ids(ids: Collection[int], limit: int = 10) -> str:
    known = sorted(ids)
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return f'{shown(known[0])} to {shown(known[-1])}'
    return ', '.join(map(shown, known[:limit])) + (', ...' if len(known) > limit else '')


def frame_list_problem(frames: Any, video: VideoInfo) -> str | None:
    """What is wrong with a list that should have one entry for each frame of a video."""
    if not isinstance(frames, list | tuple):
        return f'expected a list of {video.num_frames} frames, got {type(frames).__name__}'
    if len(frames) != video.num_frames:
        return (
            f'{len(frames)} frames, but video {video.id} ({video.name}) has {video.num_frames}; '
            'write null where the track is not seen'
        )
    return None


def mask_problem(mask: Any, video: VideoInfo) -> str | None:
    """What is wrong with one frame's run-length, its string aside."""
    if (
        isinstance(mask, dict)
        and isinstance(mask.get('counts'), (str, bytes))
        and mask.get('size') == list(video.size)
    ):
        return None
    if not isinstance(mask, dict) or 'size' not in mask or 'counts' not in mask:
        return (
            "expected null or a run-length {'size': [h, w], 'counts': '...'}, "
            f'got {type(mask).__name__}'
        )
    if not isinstance(mask['counts'], str | bytes):
        return (
            f"field 'counts': expected a compressed string, got {type(mask['counts']).__name__}; "
            'pycocotools.mask.frPyObjects compresses run-lengths and polygons'
        )
    size = mask['size']
    if not isinstance(size, list | tuple) or tuple(size) != video.size:
        return (
            f"field 'size': {shown(size)}, but video {video.id} ({video.name}) has frames of "
            f'{list(video.size)} (height, width)'
        )
    return None


def box_problem(box: Any) -> str | None:
    """What is wrong with one frame's box."""
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(is_finite, box)):
        return f'expected null or four finite numbers x, y, width, height, got {shown(box)}'
    if min(box[2:]) < 0:
        return f'width and height must not be negative, got {shown(box)}'
    return None


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number, ``bool`` left out."""
    try:
        return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def mask_string_problems(masks: Sequence[PlacedMask]) -> Iterator[str]:
    """Reads the strings of many run-lengths at once and names those that are broken."""
    totals = run_totals([mask['counts'] for _, _, mask, _ in masks])
    wanted = np.array([video.size for _, _, _, video in masks], np.int64).reshape(-1, 2).prod(1)
    for index in np.flatnonzero(~totals.intact | (totals.pixels != wanted)):
        where, frame, _, video = masks[index]
        if not totals.intact[index]:
            yield f"{where}: segmentations[{frame}]: field 'counts' is broken or cut off"
        else:
            yield (
                f"{where}: segmentations[{frame}]: field 'counts' describes "
                f'{totals.pixels[index]} pixels, but frames of video {video.id} ({video.name}) '
                f'have {wanted[index]}'
            )


def _shape_problems(
    entry: Entry, where: str, video: VideoInfo, field: str
) -> tuple[list[str], list[PlacedMask]]:
    """Problems of an entry's frames, and the run-lengths whose strings are still to be read."""
    problem = frame_list_problem(entry.get(field), video)
    if problem:
        return [f'{where}: field {field!r}: {problem}'], []
    problems: list[str] = []
    masks: list[PlacedMask] = []
    check = box_problem if field == 'bboxes' else partial(mask_problem, video=video)
    for frame, shape in enumerate(entry[field]):
        if shape is None:
            continue
        problem = check(shape)
        if problem:
            problems.append(f'{where}: {field}[{frame}]: {problem}')
        elif field == 'segmentations':
            masks.append((where, frame, shape, video))
    return problems, masks


def result_problems(
    results: Sequence[Any],
    videos: Mapping[int, VideoInfo],
    categories: Collection[int] | None,
    *,
    iou_type: IouType = 'segm',
    source: str = 'results',
) -> Iterator[str]:
    """Walks through results and names everything that is wrong with them.

    Args:
        results: the list of tracks.
        videos: by id.
        categories: ids that may be used, or ``None`` where they are not known.
        iou_type: 'box' accepts ``bboxes`` in place of ``segmentations``.
        source: what to call the results.

    Yields:
        One line a problem, in the order of the file but for broken strings, which are looked for
        a few hundred entries at a time.
    """
    read_already: set[int] = set()
    for start in range(0, len(results), _CHUNK):
        masks: list[PlacedMask] = []
        for index, entry in enumerate(results[start : start + _CHUNK], start):
            where = f'{source}[{index}]'
            problem = _head_problem(entry, videos, categories)
            if problem:
                yield f'{where}: {problem}'
                continue
            field = 'bboxes' if iou_type == 'box' and entry.get('bboxes') else 'segmentations'
            if entry.get(field) is None:
                hint = "; with boxes only, score with iou_type='box'" if 'bboxes' in entry else ''
                yield f'{where}: field {field!r} is missing{hint}'
                continue
            problems, strings = _shape_problems(entry, where, videos[entry['video_id']], field)
            yield from problems
            # tracks of several classes may share one list of masks
            if id(entry[field]) not in read_already:
                read_already.add(id(entry[field]))
                masks += strings
        yield from mask_string_problems(masks)
