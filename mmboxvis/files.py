"""Files that are written whole or not at all, and names that stay below their folder."""

from __future__ import annotations

import errno
import os
import posixpath
import re
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

StrPath = str | os.PathLike[str]

_MAX_NAME_BYTES = 200


class AnnotationError(ValueError):
    """An annotation file breaks its layout; the message names the place and what to do."""


class FrameError(OSError):
    """A frame cannot be read; the message names video, frame and file."""


class OutsideError(ValueError):
    """A name from a file leads out of the folder it is relative to."""


_ORIGINS = {
    'bvisd': 'sh tools/dataset_converters/prepare.sh writes it from the original sets',
    **dict.fromkeys(
        ('davis_mini', 'coco_mini'),
        'the variable MMBOXVIS_REAL_DATA names the folder that davis_mini and coco_mini are in '
        '(docs/en/datasets.md)',
    ),
}


def origin(path: StrPath) -> str:
    """Where a file that the configs name comes from, for messages: ``'; ...'`` or nothing."""
    told = _ORIGINS.get(Path(path).parent.name)
    return '' if told is None else f'; {told}'


def shown(value: object) -> str:
    """A value for a message, cut if long."""
    text = repr(value)
    return text if len(text) <= 80 else f'{text[:80]}...'


def name_fault(name: str) -> str | None:
    """What keeps a relative path from an untrusted file from being used, if anything.

    Absolute paths, ``..``, drive letters, backslashes and control characters are faults: they
    lead out of the folder here or on another system. So is what no file can be called.
    """
    if not name or any(ord(character) < 32 for character in name):
        return 'is empty or has control characters in it'
    if '\\' in name or name[1:2] == ':':
        return 'is a path of Windows; write / between folders, relative to the image folder'
    if name.startswith('/') or '..' in name.split('/'):
        return 'leads out of the image folder; write it relative to that folder, without ..'
    try:
        parts = [part.encode('utf-8', 'surrogateescape') for part in name.split('/')]
    except UnicodeEncodeError:
        return (
            'holds half a character (a lone surrogate), which no name of a file can; write it anew'
        )
    if any(len(part) > 255 for part in parts):
        return 'is too long for the name of a file'
    return None


def natural_key(name: str) -> tuple[list[Any], str]:
    """Sorts names as people count: ``2.jpg`` before ``10.jpg``."""
    # text and digits alternate, so that like is compared with like
    parts = re.split(r'([0-9]+)', name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


@dataclass(frozen=True)
class ImageRoot(os.PathLike[str]):
    """A folder of images that may have links in it, at places which the user or a config names.

    It stands wherever a path of an image folder does. An annotation file cannot add a place:
    what lies in one of ``linked`` must stay below it, all else below ``path``.

    Example:
        >>> root = ImageRoot('data', ('OVIS/train',))  # data/OVIS may be a link, or train
        >>> path_below(root, 'OVIS/train/some_video/0.jpg')
        'data/OVIS/train/some_video/0.jpg'

    Args:
        path: the folder; it may be a link itself.
        linked: folders relative to ``path``.

    Raises:
        ValueError: if ``linked`` is no list of folders below ``path``.
    """

    path: StrPath
    linked: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.linked, str):
            raise ValueError(f'linked must be a list of folders, got {self.linked!r}')
        for folder in self.linked:
            fault = name_fault(folder.rstrip('/'))
            if fault is None and posixpath.normpath(folder) == '.':
                fault = 'is the folder of the images itself, which may be a link anyway'
            if fault is not None:
                raise ValueError(f'linked folder {folder!r} {fault}')
        # './set//train/' is 'set/train'
        object.__setattr__(self, 'linked', tuple(map(posixpath.normpath, self.linked)))

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return os.fspath(self.path)

    def folder_of(self, name: str) -> str:
        """The folder that ``name``, relative to ``path``, must stay below."""
        around = [folder for folder in self.linked if name.startswith(f'{folder}/')]
        return os.path.join(self.path, max(around, key=len)) if around else os.fspath(self.path)


def safe_name(name: str) -> str:
    """Makes a single file name of a video's name: no separators, no leading dots, not too long.

    ``'a/b'`` gives ``'a_b'``, ``'../../x'`` gives ``'x'``; letters of all scripts stay.
    """
    parts = [part.strip(' .') for part in re.split(r'[/\\:]', name)]
    safe = re.sub(r'[^\w.+=@() -]', '_', '_'.join(filter(None, parts)))
    # file systems count bytes, 255 of them, and numbers and suffixes come behind
    return safe.encode()[:_MAX_NAME_BYTES].decode(errors='ignore').strip(' .')


def unique_name(name: str, taken: Collection[str], number: int) -> str:
    """Tells a name from those given out: with a number behind it if it has to be, or with two.

    Args:
        name: the name wanted.
        taken: names given out already.
        number: of the thing that is named, such as its id.
    """
    wished = name
    count = 1
    while wished in taken:
        wished = f'{name}_{number}' if count == 1 else f'{name}_{number}_{count}'
        count += 1
    return wished


def path_below(root: StrPath, name: str) -> str:
    """Joins a name from an untrusted file to its folder.

    The folder itself may be a link, and so may those that an :class:`ImageRoot` names.

    Raises:
        OutsideError: if the name, or a link that it goes through, leads out of the folder.
    """
    fault = name_fault(name)
    if fault is not None:
        raise OutsideError(f'{name[:200]!r} {fault}')
    path = os.path.join(root, name)
    folder = root.folder_of(name) if isinstance(root, ImageRoot) else root
    _check_links(folder, path, ', or name the folder that is one (linked)')
    return path


def _check_links(root: StrPath, path: StrPath, or_else: str = '') -> None:
    real_root = os.path.realpath(root)
    if os.path.commonpath([os.path.realpath(path), real_root]) != real_root:
        raise OutsideError(
            f'{path} goes through a link that leads out of {root}; put the files there, or make '
            f'the whole folder a link{or_else}'
        )


@contextmanager
def whole_file(path: StrPath) -> Iterator[Path]:
    """Gives a temporary path beside ``path`` that takes its place when the block succeeds.

    The temporary name keeps the suffix, by which encoders choose the format. If the block
    raises, the temporary file is removed and what stood at ``path`` stays. Where ``path`` is a
    link, it is what the link leads to that is replaced. A device or a pipe cannot be replaced: it
    is given itself.
    """
    if _is_device(path):
        yield Path(path)
        return
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f'.{target.stem}.{os.getpid()}.part{Path(path).suffix}')
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _is_device(path: StrPath) -> bool:
    """Whether there is something that is neither file nor folder: a device, a pipe, a socket."""
    path = Path(path)
    return path.exists() and not path.is_file() and not path.is_dir()


def require_writable(path: StrPath) -> None:
    """Makes the folder of a file, and checks that the file can be written there.

    Raises:
        OSError: if it cannot; the message names the path.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.is_dir():
            raise IsADirectoryError('it is a folder')
        if _is_device(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        reason = f'{error.strerror} ({error.filename})' if error.strerror else error
        raise OSError(f'{path} cannot be written: {reason}') from error


@contextmanager
def whole_files(
    root: StrPath, names: Sequence[str] = (), *, overwrite: bool, last: str | None = None
) -> Iterator[Path]:
    """Lends a folder to write files into, and moves all of them below ``root`` on success.

    If the block raises, nothing below ``root`` has changed.

    Args:
        root: made if it is missing.
        names: the files that will be written, as far as they are known: relative paths.
        overwrite: whether these may be replaced.
        last: the file to be moved after all others, so that it tells that they are there.

    Raises:
        FileExistsError: before anything is written, if one of ``names`` exists already.
        OutsideError: if a folder below ``root`` is a link to somewhere else.
    """
    root = Path(root)
    found = next((name for name in names if (root / name).exists()), None)
    if found is not None and not overwrite:
        raise FileExistsError(
            f'{root / found} exists already; choose another folder or allow it with --overwrite'
        )
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f'.draft-{uuid.uuid4().hex}'
    try:
        draft.mkdir()
        for name in names:
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
        yield draft
        written = [path.relative_to(draft) for path in draft.rglob('*') if path.is_file()]
        for path in written:
            _check_links(root, (root / path).parent)
        for path in sorted(written, key=lambda path: (str(path) == last, path)):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(draft / path, root / path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
