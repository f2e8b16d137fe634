"""Python source of a config."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def literal(value: Any, indent: int = 0) -> str:
    """Python source of a value, on one line where it fits into 100 columns."""
    if isinstance(value, Mapping):
        words = all(isinstance(key, str) and key.isidentifier() for key in value)
        words = words and not any(keyword.iskeyword(key) for key in value)
        start, end = ('dict(', ')') if words else ('{', '}')
        names = [f'{key}=' if words else f'{key!r}: ' for key in value]
        entries = list(value.values())
    elif isinstance(value, (list, tuple)):
        start, end = ('[', ']') if isinstance(value, list) else ('(', ')')
        names, entries = [''] * len(value), list(value)
    else:
        return repr(value)
    parts = [name + literal(entry, indent + 4) for name, entry in zip(names, entries)]
    trailing = ',' if isinstance(value, tuple) and len(parts) == 1 else ''
    line = f'{start}{", ".join(parts)}{trailing}{end}'
    if '\n' not in line and indent + len(line) < 80:
        return line
    inner = ''.join(f'{" " * (indent + 4)}{part},\n' for part in parts)
    return f'{start}\n{inner}{" " * indent}{end}'


def to_source(converted: Mapping[str, Any], notes: Sequence[str], origin: str) -> str:
    """The text of the converted config."""
    lines = [f'"""Made of {origin} by tools/model_converters/from_mmtrack_config.py."""', '']
    if notes:
        lines.append('# What to know of the conversion:')
        for note in notes:
            text = textwrap.fill(' '.join(note.split()), 96, break_long_words=False)
            lines += [f'# {"  " if i else "- "}{line}' for i, line in enumerate(text.split('\n'))]
        lines.append('')
    lines += [f'{key} = {literal(value)}' for key, value in converted.items()]
    return '\n'.join(lines) + '\n'
