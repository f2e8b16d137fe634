"""Masks and progress of a video on disk, so that neither fills the memory nor gets lost."""

from __future__ import annotations

import io
import sqlite3
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import torch
from pycocotools import mask as mask_utils
from torch import Tensor

from mmboxvis.models.trackers import TrackFrame, WindowScores
from mmboxvis.models.trackers.track_memory import Detections, TrackMemory
from mmboxvis.models.vis.track_masks import TrackMasks
from mmboxvis.structures.video_prediction import RLE

_STATE_CLASSES = {cls.__name__: cls for cls in (Detections, TrackFrame, TrackMemory, WindowScores)}


class MaskSpool:
    """Run-lengths of tracks and frames in one file, a few megabytes of it in memory.

    With a path the file stays: masks and state are written together or not at all
    (:meth:`commit`), and after a crash the file stands as it was at the last commit. Without one
    it is a temporary file.

    Args:
        path: file to keep; made where it is missing.

    Raises:
        ValueError: where the file is something else, or in use; by the methods, once it is closed.
        OSError: by the methods, where the disk is full or fails.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._is_closed = False
        self._folder = None
        if path is None:
            self._folder = tempfile.TemporaryDirectory(prefix='mmboxvis-')
            path = Path(self._folder.name, 'masks')
        try:
            self._open(path, keep=self.path is not None)
        except sqlite3.Error as error:
            raise ValueError(
                f'{path} cannot be used to keep masks in ({error}); another run may be using it '
                '(end it, or close its segmenter), or it is another kind of file'
            ) from error

    def _open(self, path: Path, *, keep: bool) -> None:
        # used by one thread at a time, but not always by the same
        self._base = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
        run = self._base.execute
        run('PRAGMA cache_size = -2000')
        run('PRAGMA locking_mode = EXCLUSIVE')
        run(f'PRAGMA journal_mode = {"DELETE" if keep else "OFF"}')
        run(f'PRAGMA synchronous = {"FULL" if keep else "OFF"}')
        run('BEGIN EXCLUSIVE')
        run(
            'CREATE TABLE IF NOT EXISTS masks (track INTEGER, frame INTEGER, counts TEXT, '
            'PRIMARY KEY (track, frame)) WITHOUT ROWID'
        )
        run('CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY, content BLOB)')

    def add(self, frame: int, track_id: int, counts: str) -> None:
        """Takes the run-length string of a track in a frame."""
        self._execute('INSERT INTO masks VALUES (?, ?, ?)', (track_id, frame, counts))

    def get(self, frame: int, track_id: int) -> str | None:
        """The run-length string of a track in a frame, ``None`` where it is not seen."""
        row = next(
            self._rows('SELECT counts FROM masks WHERE track = ? AND frame = ?', (track_id, frame)),
            None,
        )
        return None if row is None else row[0]

    def track(self, track_id: int) -> Iterator[tuple[int, str]]:
        """Frames in which a track is seen, in order, with their run-length strings."""
        return self._rows(
            'SELECT frame, counts FROM masks WHERE track = ? ORDER BY frame', (track_id,)
        )

    def commit(self, state: dict[str, Any]) -> None:
        """Writes what was added since the last time, together with a state of plain tensors."""
        content = io.BytesIO()
        torch.save(state, content)
        run = self._execute
        run('INSERT OR REPLACE INTO state VALUES (0, ?)', (content.getbuffer(),))
        run('COMMIT')
        run('BEGIN EXCLUSIVE')

    def state(self) -> dict[str, Any] | None:
        """The state of the last commit; reading it runs no code."""
        row = next(self._rows('SELECT content FROM state'), None)
        return None if row is None else torch.load(io.BytesIO(row[0]), weights_only=True)

    def close(self) -> None:
        """Closes the file; what was not committed is lost."""
        self._is_closed = True
        self._base.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _execute(self, command: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        if self._is_closed:
            raise ValueError(
                f'the run that keeps its masks in {self.path or "a temporary file"} is closed; '
                'call the segmenter again'
            )
        with self._disk_errors():
            return self._base.execute(command, values)

    def _rows(self, command: str, values: tuple[Any, ...] = ()) -> Iterator[Any]:
        return self._fetched(self._execute(command, values))

    def _fetched(self, cursor: sqlite3.Cursor) -> Iterator[Any]:
        with self._disk_errors():
            yield from cursor

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            place = self.path or f'a temporary file in {tempfile.gettempdir()}'
            raise OSError(
                f'the masks of a video cannot be kept in {place} ({error}); is the disk full?'
            ) from error


class SpooledTrack(Sequence[RLE | None]):
    """One track's masks of all V frames, read from the spool when asked for."""

    def __init__(
        self, spool: MaskSpool, track_id: int, num_frames: int, size: tuple[int, int]
    ) -> None:
        self._spool, self._track_id = spool, track_id
        self._num_frames, self._size = num_frames, size

    def __len__(self) -> int:
        return self._num_frames

    @overload
    def __getitem__(self, index: int) -> RLE | None: ...
    @overload
    def __getitem__(self, index: slice) -> list[RLE | None]: ...
    def __getitem__(self, index: int | slice) -> RLE | list[RLE | None] | None:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f'frame {index} of {len(self)}')
        return self._rle(self._spool.get(index % len(self), self._track_id))

    def __iter__(self) -> Iterator[RLE | None]:
        next_frame = 0
        for frame, counts in self._spool.track(self._track_id):
            if frame >= self._num_frames:
                break
            yield from (None for _ in range(next_frame, frame))
            yield self._rle(counts)
            next_frame = frame + 1
        yield from (None for _ in range(next_frame, self._num_frames))

    def _rle(self, counts: str | None) -> RLE | None:
        return None if counts is None else dict(size=list(self._size), counts=counts)


@dataclass
class SpooledMasks(TrackMasks):
    """Track masks whose run-lengths go to a spool; only counts stay in memory."""

    spool: MaskSpool = field(default_factory=MaskSpool)

    def keep(self, frame: int, track_id: int, rle: RLE) -> None:
        """Writes one mask, unless it is empty."""
        if mask_utils.area(rle):
            self.spool.add(frame, track_id, rle['counts'])


def pack(value: Any) -> Any:
    """Turns what a tracker remembers into plain containers of tensors, numbers and strings.

    Tensors are copied, so that neither later changes nor the rest of a larger storage come along.

    Raises:
        TypeError: for an object of a class that :func:`unpack` would not make again.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if value is None or isinstance(value, bool | int | float | str | torch.dtype):
        return value
    if isinstance(value, deque):
        return dict(kind='deque', maxlen=value.maxlen, items=[pack(item) for item in value])
    if isinstance(value, list | tuple):
        kind = 'list' if isinstance(value, list) else 'tuple'
        return dict(kind=kind, items=[pack(item) for item in value])
    if isinstance(value, dict):
        return dict(kind='dict', items=[[pack(key), pack(item)] for key, item in value.items()])
    name = type(value).__name__
    if _STATE_CLASSES.get(name) is not type(value):
        raise TypeError(f'the state of a video holds a {name}, which cannot be saved')
    return dict(kind='object', type=name, fields=pack(vars(value)))


def unpack(value: Any) -> Any:
    """Makes what :func:`pack` was given."""
    if not isinstance(value, dict):
        return value
    if value['kind'] == 'dict':
        return {unpack(key): unpack(item) for key, item in value['items']}
    if value['kind'] == 'object':
        made = object.__new__(_STATE_CLASSES[value['type']])
        vars(made).update(unpack(value['fields']))  # frozen dataclasses among them
        return made
    items = [unpack(item) for item in value['items']]
    if value['kind'] == 'deque':
        return deque(items, value['maxlen'])
    return items if value['kind'] == 'list' else tuple(items)
