"""Ids as they stand in files, and as they are meant."""

from __future__ import annotations

from typing import Any


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def repaired_key(entry: Any) -> int | None:
    """The id that an entry has or is meant to have."""
    key = fixed_id(entry.get('id')) if isinstance(entry, dict) else None
    return key if isinstance(key, int) else None


def can_fix_id(value: Any) -> bool:
    """Whether it is an id that only has the wrong type."""
    return fixed_id(value) is not value


def fixed_id(value: Any) -> Any:
    """The whole number that is meant by ``'7'`` or ``7.0``, else the value itself."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        # longer ones are no ids, and Python reads no text of thousands of digits
        return int(value) if len(value.strip()) < 20 else value
    return value
