"""Annotation files read and written entry by entry, so that memory does not grow with them.

A training file of COCO is 450 MB of text and several GB once loaded. Here one entry of its lists
is in memory at a time; what is to stay, the caller keeps.
"""

from __future__ import annotations

import codecs
import gc
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NoReturn

from mmboxvis.files import StrPath, whole_file

from .coco_clip import annotation_as_track, image_as_video
from .video_json import AnnotationError

OnBytes = Callable[[int], None]

_CHUNK = 1 << 20
_SPACE = re.compile(r'[ \t\n\r]*')


class Member(NamedTuple):
    """A part of the outermost object.

    Attributes:
        key: name in the object.
        value: an entry where the value is a list, else the whole value.
        position: where in the list it stands, ``None`` where the value is no list.
    """

    key: str
    value: Any
    position: int | None


class JsonStream:
    """Walks through a json object, the lists in it entry by entry.

    Memory is that of the largest entry. May be iterated again; each time reads the file anew.

    Example:
        >>> stream = JsonStream('instances_train2017.json')
        >>> sum(key == 'annotations' for key, _, _ in stream)
        860001

    Args:
        path: the file.
        on_bytes: told how many bytes have been read, about every MB.

    Attributes:
        list_keys: names of the lists met, also empty ones, once it has been iterated to the end.
        sha256: of the file, once it has been iterated to the end.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: while iterating, if it is no json object.
    """

    def __init__(self, path: StrPath, *, on_bytes: OnBytes | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f'annotation file {path} not found')
        self.on_bytes = on_bytes
        self.list_keys: set[str] = set()
        self.sha256 = ''

    def __iter__(self) -> Iterator[Member]:
        self.list_keys = set()
        with open(self.path, 'rb') as file:
            text = _Text(file, str(self.path), self.on_bytes)
            text.take('{', 'a json object with videos, categories and annotations')
            more = text.peek() != '}'
            while more:
                key = text.value()
                if not isinstance(key, str):
                    text.fail('expected a name in quotes')
                text.take(':', f'a colon after {key!r}')
                yield from self._value(key, text)
                more = text.another('}')
            text.take('}', '}')
            if text.peek():
                text.fail('expected the end of the file')
            self.sha256 = text.hash.hexdigest()

    def _value(self, key: str, text: _Text) -> Iterator[Member]:
        if text.peek() != '[':
            yield Member(key, text.value(), None)
            return
        self.list_keys.add(key)
        text.take('[', '[')
        more = text.peek() != ']'
        for position in itertools.count():
            if not more:
                break
            yield Member(key, text.value(), position)
            more = text.another(']')
        text.take(']', ']')


class _Text:
    """The text of a file from some place on, read as far as needed."""

    def __init__(self, file: BinaryIO, name: str, on_bytes: OnBytes | None) -> None:
        self.file, self.name, self.on_bytes = file, name, on_bytes
        self.hash = hashlib.sha256()
        self._decoder = codecs.getincrementaldecoder('utf-8-sig')()
        self._scan = json.JSONDecoder().raw_decode
        self._buffer, self._place, self._before, self._at_end = '', 0, 0, False

    def peek(self) -> str:
        """The next character that is no space, or nothing at the end."""
        while True:
            following = self._buffer[self._place : self._place + 1]
            if following > ' ':
                return following
            self._place = _SPACE.match(self._buffer, self._place).end()  # type: ignore[union-attr]
            if self._place < len(self._buffer):
                return self._buffer[self._place]
            if not self._more():
                return ''

    def take(self, wanted: str, meaning: str) -> None:
        """Steps over a character, which must be the next."""
        if self.peek() != wanted:
            self.fail(f'expected {meaning}')
        self._place += 1

    def another(self, closing: str) -> bool:
        """Whether another entry follows; steps over the comma before it."""
        following = self.peek()
        if following == closing:
            return False
        if following != ',':
            self.fail(f'expected a comma or {closing}')
        self._place += 1
        if self.peek() == closing:
            self.fail(f'expected no comma before {closing}')
        return True

    def value(self) -> Any:
        """The next value, read as a whole."""
        self.peek()
        while True:
            try:
                value, end = self._scan(self._buffer, self._place)
            except json.JSONDecodeError as error:
                # perhaps the entry is only cut by the end of what has been read
                if not self._more():
                    self.fail(error.msg, error.pos)
                continue
            except ValueError as error:  # a number of thousands of digits
                self.fail(str(error))
            except RecursionError:
                self.fail('nested too deeply')
            # a number may go on after the end of what has been read: 1 of 1.5, or 1 of 1e+5
            if end + 3 > len(self._buffer) and self._more():
                continue
            self._place = end
            return value

    def fail(self, what: str, place: int | None = None) -> NoReturn:
        place = self._before + (self._place if place is None else place)
        raise AnnotationError(f'{self.name} is not valid json: {what} at character {place}')

    def _more(self) -> bool:
        """Reads on; long entries in ever larger steps, so that the time stays linear."""
        if self._at_end:
            return False
        rest = self._buffer[self._place :]
        data = self.file.read(max(_CHUNK, len(rest)))
        self._at_end = not data
        self.hash.update(data)
        self._before += self._place
        try:
            self._buffer, self._place = rest + self._decoder.decode(data, self._at_end), 0
        except UnicodeDecodeError as error:
            raise AnnotationError(f'{self.name} is not UTF-8 text: {error}') from error
        if self.on_bytes is not None:
            self.on_bytes(self.file.tell())
        return True


@contextmanager
def without_gc() -> Iterator[None]:
    """Pauses the search for cycles, which json does not have.

    Otherwise it goes through all entries kept so far again and again, a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# ------------------------------------------------------------------ annotation files

Layout = Literal['video', 'image']


@dataclass
class AnnotationFile:
    """What an annotation file holds besides annotations, in YouTube-VIS layout.

    Attributes:
        path: the file.
        layout: ``'image'`` where the file is in COCO layout: its images are videos of one frame
            here, its annotations tracks of one frame.
        videos: entries as they stand, unchecked.
        categories: entries as they stand, unchecked.
        others: values besides the three lists, such as ``info``.
        missing: which of ``videos`` (or ``images``), ``categories`` and ``annotations`` are null
            or no list.
        num_annotations: entries of ``annotations``.
        sha256: of the file.
    """

    path: Path
    layout: Layout = 'video'
    videos: list[Any] = field(default_factory=list)
    categories: list[Any] = field(default_factory=list)
    others: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    num_annotations: int = 0
    sha256: str = ''

    def annotations(self, *, on_bytes: OnBytes | None = None) -> Iterator[Any]:
        """Reads the file again and yields its annotations in YouTube-VIS layout, in order."""
        for key, value, position in JsonStream(self.path, on_bytes=on_bytes):
            if key == 'annotations' and position is not None:
                yield annotation_as_track(value) if self.layout == 'image' else value


def read_annotation_file(path: StrPath, *, on_bytes: OnBytes | None = None) -> AnnotationFile:
    """Reads everything but the annotations, in either layout.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is no json object.
    """
    stream = JsonStream(path, on_bytes=on_bytes)
    found = AnnotationFile(Path(path))
    entries: dict[str, list[Any]] = dict(videos=[], images=[], categories=[])
    for key, value, position in stream:
        if position is None:
            found.others[key] = value
        elif key in entries:
            entries[key].append(value)
        elif key == 'annotations':
            found.num_annotations += 1
        else:
            found.others.setdefault(key, []).append(value)
    if 'images' in stream.list_keys and 'videos' not in stream.list_keys:
        found.layout = 'image'
    listed = 'images' if found.layout == 'image' else 'videos'
    needed = (listed, 'categories', 'annotations')
    found.missing = tuple(key for key in needed if key not in stream.list_keys)
    found.videos = entries[listed]
    if found.layout == 'image':
        found.videos = [image_as_video(image) for image in found.videos]
    found.categories = entries['categories']
    for key in needed:
        found.others.pop(key, None)
    found.sha256 = stream.sha256
    return found


class WrittenFile(NamedTuple):
    """Size and SHA-256 of a file."""

    num_bytes: int
    sha256: str


def write_json_stream(
    path: StrPath, members: Mapping[str, Any], *, allow_nan: bool = False
) -> WrittenFile:
    """Writes a json object whole or not at all, one line an entry of its lists.

    Args:
        path: its folder is made if needed.
        members: values; lists and iterators are written entry by entry.
        allow_nan: write numbers that are not finite as Python does, which is no valid json.

    Raises:
        ValueError: if a number is not finite and that is not allowed.
    """
    digest, size = hashlib.sha256(), 0
    with whole_file(path) as temporary, open(temporary, 'wb') as file:
        for text in _pieces(members, allow_nan):
            data = text.encode()
            digest.update(data)
            size += file.write(data)
    return WrittenFile(size, digest.hexdigest())


def _pieces(members: Mapping[str, Any], allow_nan: bool) -> Iterator[str]:
    encode = json.JSONEncoder(separators=(',', ':'), allow_nan=allow_nan).encode
    start = '{'
    for key, value in members.items():
        yield f'{start}{encode(key)}:'
        start = ',\n'
        if isinstance(value, (str, Mapping)) or not isinstance(value, (Sequence, Iterator)):
            yield encode(value)
            continue
        yield from _list_pieces(value, encode)
    yield '{}\n' if not members else '}\n'


def _list_pieces(entries: Iterable[Any], encode: Callable[[Any], str]) -> Iterator[str]:
    comma = '['
    for entry in entries:
        yield f'{comma}\n{encode(entry)}'
        comma = ','
    yield '[]' if comma == '[' else '\n]'
