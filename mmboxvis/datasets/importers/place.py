"""Reading of files that cannot be trusted: values are checked, and messages name their place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
import yaml
from defusedxml import DefusedXmlException

from mmboxvis.files import natural_key

from ..video_json import AnnotationError, shown

MAX_NUMBER = 1e6
"""Largest coordinate, in pixels."""
MAX_COUNT = 10**9
"""Largest whole number: ids, frames."""
MAX_BYTES = 2 * 1024**3
"""Largest text file that is read."""

# also line ends of unicode, halves of a character, and what xml cannot hold
_CONTROL = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]')
_WHOLE = re.compile(r'\s*[+-]?[0-9]{1,18}(\.0*)?\s*', re.ASCII)
_REAL = re.compile(r'\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?\s*', re.ASCII)


@dataclass(frozen=True)
class Place:
    """A place in a file, with the checks of what stands there.

    Attributes:
        path: the file.
        where: the place in it, such as ``'line 3'``.
    """

    path: Path
    where: str = ''

    def at(self, part: str) -> Place:
        """A place within this one."""
        return replace(self, where=f'{self.where}, {part}' if self.where else part)

    def fail(self, what: str) -> NoReturn:
        """Raises the error that names this place.

        Raises:
            AnnotationError: always.
        """
        raise AnnotationError(
            ': '.join(part for part in (str(self.path), self.where, what) if part)
        )

    def number(
        self, value: object, name: str, low: float = -MAX_NUMBER, high: float = MAX_NUMBER
    ) -> float:
        """A finite number between ``low`` and ``high``, also from text."""
        if isinstance(value, str) and _REAL.fullmatch(value):
            value = float(value)
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not good or not low <= value <= high:  # type: ignore[operator]
            self.fail(f'{name} must be a number from {low:g} to {high:g}, got {shown(value)}')
        return float(value)  # type: ignore[arg-type]

    def whole(self, value: object, name: str, low: int = 0, high: int = MAX_COUNT) -> int:
        """A whole number between ``low`` and ``high``, also from text or written ``14.0``."""
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = float(value)
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            value = int(value)
        good = isinstance(value, int) and not isinstance(value, bool)
        if not good or not low <= value <= high:  # type: ignore[operator]
            self.fail(f'{name} must be a whole number from {low} to {high}, got {shown(value)}')
        return int(value)  # type: ignore[call-overload]

    def text(self, value: object, name: str) -> str:
        """Text that is not empty, without space around it."""
        if not isinstance(value, str) or not value.strip():
            self.fail(f'{name} must be text, got {shown(value)}')
        if _CONTROL.search(value.strip()):
            self.fail(f'{name} {shown(value)} has control characters in it')
        return value.strip()

    def flag(self, value: object, name: str) -> bool | None:
        """True or false, also written as 0 or 1 or as text; ``None`` for what is missing."""
        if value is None:
            return None
        word = value.strip().casefold() if isinstance(value, str) else value
        for known, goods in ((True, ('true', '1', 1)), (False, ('false', '0', 0))):
            if word in goods:  # equality holds for true and 1.0 too
                return known
        self.fail(f'{name} must be true or false, got {shown(value)}')

    def table(self, value: object, name: str) -> dict[str, Any]:
        """A json object."""
        if not isinstance(value, dict):
            self.fail(f'{name} must be an object {{...}}, got {shown(value)}')
        return value

    def items(self, value: object, name: str, length: int | None = None) -> list[Any]:
        """A json list, of a certain length if that is given."""
        if not isinstance(value, list) or (length is not None and len(value) != length):
            wanted = 'a list' if length is None else f'a list of {length}'
            self.fail(f'{name} must be {wanted}, got {shown(value)}')
        return value

    def relative_path(self, value: object, name: str) -> str:
        """A path that stays below the folder it is relative to, with ``/`` between its parts."""
        text = self.text(value, name).replace('\\', '/')
        parts = PurePosixPath(text).parts
        drive = bool(parts) and ':' in parts[0][:2]
        if text.startswith('/') or drive or '..' in parts or text.startswith('~') or not parts:
            self.fail(f'{name} {shown(value)} leads out of the folder of the data set; rename it')
        if any(len(part.encode()) > 240 for part in parts):
            self.fail(f'{name} {shown(value)} is too long for the name of a file')
        return str(PurePosixPath(*parts))


def source_files(source: Path, suffix: str) -> list[Path]:
    """The file itself, or all files with the suffix below the folder, 2 before 10.

    Raises:
        FileNotFoundError: if there is none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f'{source} not found')
    found = files_below(source, suffix)
    if not found:
        raise FileNotFoundError(f'{source} has no {suffix} file in it')
    return found


def files_below(folder: Path, suffix: str) -> list[Path]:
    """All files with the suffix, also in capitals, below a folder, 2 before 10."""
    found = (path for path in folder.rglob('*') if path.suffix.lower() == suffix)
    return sorted(
        (path for path in found if path.is_file()),
        key=lambda path: [natural_key(part) for part in path.relative_to(folder).parts],
    )


def read_text(path: Path) -> str:
    """Loads a text file.

    Raises:
        FileNotFoundError: if it is missing.
        AnnotationError: if it is too large or no UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} not found')
    if path.stat().st_size > MAX_BYTES:
        Place(path).fail(f'larger than {MAX_BYTES} bytes; split it')
    try:
        return path.read_text(encoding='utf-8-sig')
    except UnicodeDecodeError as error:
        raise AnnotationError(f'{path}: byte {error.start}: not UTF-8 text') from error


def read_json(path: Path) -> Any:
    """Loads a json file of any kind; NaN and infinity are refused.

    Raises:
        FileNotFoundError: if it is missing.
        AnnotationError: if it is not valid json.
    """

    def refuse(word: str) -> NoReturn:
        raise ValueError(f'{word} is no number of json')

    try:
        return json.loads(read_text(path), parse_constant=refuse)
    except AnnotationError:
        raise
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f'{path}: not valid json: {error}') from error


def read_rows(path: Path, delimiter: str | None) -> Iterator[tuple[Place, list[str]]]:
    """Columns of each line that is not blank; ``None`` as delimiter is any space.

    Raises:
        AnnotationError: if a line holds nothing but commas.
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            place = Place(path, f'line {number}')
            cells = [cell.strip() for cell in line.strip().rstrip(',').split(delimiter)]
            if not any(cells):
                place.fail('holds no value')
            yield place, cells


def read_names(path: Path) -> tuple[str, ...]:
    """Class names: one a line, or the list or numbered table ``names`` of a yaml file.

    Raises:
        AnnotationError: if there is none, one twice, or a blank line ahead of one.
    """
    place = Place(path)
    text = read_text(path)
    if path.suffix in ('.yaml', '.yml'):
        content = read_yaml(path)
        names = place.table(content, 'the file').get('names')
        if isinstance(names, dict):
            numbers = [place.whole(key, 'number of a name', 0, 9999) for key in names]
            if sorted(numbers) != list(range(len(numbers))):
                place.fail(f'names must be numbered 0, 1, 2, ..., got {shown(numbers)}')
            names = [names[key] for key in sorted(names, key=int)]
        names = [place.text(name, 'name') for name in place.items(names, 'names')]
    else:
        lines = text.rstrip().split('\n') if text.strip() else []
        blank = next((i for i, line in enumerate(lines, start=1) if not line.strip()), None)
        if blank is not None:
            place.at(f'line {blank}').fail(
                'is blank, so that it is open which number the classes after it have; write a name '
                'for each number, or take the line out'
            )
        names = [place.at(f'line {i}').text(line, 'name') for i, line in enumerate(lines, start=1)]
    if not names or len(set(names)) != len(names):
        place.fail('expected at least one class name, each once')
    return tuple(names)


def read_yaml(path: Path) -> Any:
    """Loads a yaml file of plain values.

    Raises:
        AnnotationError: if it is not valid yaml.
    """
    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, AnnotationError):
            raise
        told = ' '.join(str(error).split())
        raise AnnotationError(f'{path}: not valid yaml: {told}') from error


def read_xml(path: Path, tags: Sequence[str]) -> Iterator[Element]:
    """Children of the root with one of the tags, one after another; each is freed afterwards.

    Raises:
        FileNotFoundError: if the file is missing.
        AnnotationError: if it is not well-formed, or defines entities or a document type.
    """
    if not path.is_file():
        raise FileNotFoundError(f'{path} not found')
    try:
        depth, root = 0, None
        for event, element in defusedxml.ElementTree.iterparse(
            path, events=('start', 'end'), forbid_dtd=True
        ):
            if event == 'start':
                root = element if root is None else root
                depth += 1
                if depth > 50:
                    Place(path).fail(f'element {shown(element.tag)} is nested 50 deep')
                continue
            depth -= 1
            if depth == 1 and root is not None:
                if element.tag in tags:
                    yield element
                root.clear()
    except ParseError as error:
        raise AnnotationError(f'{path}: not well-formed xml: {error}') from error
    except DefusedXmlException as error:
        raise AnnotationError(
            f'{path}: refused, because it defines a document type or entities, which can be an '
            f'attack and which annotations do not need ({type(error).__name__})'
        ) from error
    except AnnotationError:
        raise
    except (LookupError, ValueError) as error:  # an encoding that expat does not know
        raise AnnotationError(f'{path}: not readable xml: {error}; save it as UTF-8') from error
