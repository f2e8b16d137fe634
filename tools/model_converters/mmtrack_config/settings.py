"""A config that knows what was read of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .source import literal

SCOPES = ('mmtrack', 'mmdet', 'mmcls', 'mmpretrain', 'mmengine', 'mmcv')


class ConversionError(ValueError):
    """The config cannot be converted; the message is one line."""


class Settings:
    """A section of a config that remembers what was read of it.

    What nobody has read when the conversion is done, :meth:`left` lists: so nothing is lost
    silently. A setting of ``None`` counts as absent.

    Args:
        content: the section.
        path: its name, for messages.
        notes: collects what is to be said of settings that were read.
    """

    def __init__(self, content: Mapping[str, Any], path: str, notes: list[str]) -> None:
        self.path = path
        self.notes = notes
        self._content = {key: value for key, value in content.items() if value is not None}
        self._unread = dict.fromkeys(self._content)
        self._parts: dict[str, list[Settings]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def take(self, key: str, default: Any = None) -> Any:
        """Reads one setting as it stands."""
        self._unread.pop(key, None)
        return self._content.get(key, default)

    def peek(self, key: str) -> Any:
        """Looks at a setting; it still counts as unread."""
        return self._content.get(key)

    def everything(self) -> dict[str, Any]:
        """Reads what is left of the section."""
        content = {key: self._content[key] for key in self._unread}
        self._unread.clear()
        return content

    def skip(self, *keys: str) -> None:
        """Marks settings that have no effect here as read."""
        for key in keys:
            self._unread.pop(key, None)

    def kind(self) -> str:
        """Reads ``type``, without the name of a package."""
        return unscoped(str(self.take('type', '')))

    def expect(self, **settings: Any) -> None:
        """Reads settings that are fixed here; others than these are noted."""
        for key, value in settings.items():
            got = self.take(key, value)
            if _plain(got) != _plain(value):
                self.note(f'{self.path}.{key} = {literal(got)}: here it is {literal(value)}')

    def part(self, key: str) -> Settings:
        """Reads a nested section; an empty one where there is none."""
        return self.parts(key, at_most_one=True)[0]

    def parts(self, key: str, *, at_most_one: bool = False) -> list[Settings]:
        """Reads a list of sections, or a section in place of a list of one."""
        if key in self._parts:
            return self._parts[key]
        value = self.take(key)
        single = isinstance(value, Mapping) or (value is None and at_most_one)
        values = [value or {}] if single else list(value or [])
        if not all(isinstance(content, Mapping) for content in values):
            raise ConversionError(f'{self.path}.{key}: expected dict(...), got {literal(value)}')
        if at_most_one and len(values) != 1:
            raise ConversionError(f'{self.path}.{key}: expected one dict, got {len(values)}')
        root = f'{self.path}.{key}' if self.path else key
        self._parts[key] = [
            Settings(content, root if single else f'{root}[{i}]', self.notes)
            for i, content in enumerate(values)
        ]
        return self._parts[key]

    def refuse(self, why: str) -> None:
        """Reads all of a section that cannot be carried over, and says so in one line."""
        self.note(f'{self.path} = {literal(self._content)}: {why}')
        self._unread.clear()

    def note(self, text: str) -> None:
        """Says something of what was read."""
        if text not in self.notes:
            self.notes.append(text)

    def left(self) -> Iterator[str]:
        """What nobody has read."""
        for key in self._unread:
            name = f'{self.path}.{key}' if self.path else key
            yield f'{name} = {literal(self._content[key])}'
        for parts in self._parts.values():
            for part in parts:
                yield from part.left()


def _plain(value: Any) -> Any:
    """Lists as tuples, so that the two compare."""
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def unscoped(name: str) -> str:
    """``mmdet.ResNet`` to ``ResNet``."""
    scope, _, rest = name.partition('.')
    return rest if rest and scope in SCOPES else name


def unscope(value: Any) -> Any:
    """Drops package names from all ``type`` entries of a nested value."""
    if isinstance(value, Mapping):
        return {
            key: unscoped(entry) if key == 'type' and isinstance(entry, str) else unscope(entry)
            for key, entry in value.items()
            if key != '_scope_'
        }
    if isinstance(value, (list, tuple)):
        return type(value)(unscope(entry) for entry in value)
    return value
