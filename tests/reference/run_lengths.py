"""Run-length strings read number by number."""

from __future__ import annotations


def runs_of(text: str) -> list[int]:
    """The runs of a compressed string that is well-formed."""
    runs: list[int] = []
    value = shift = 0
    for char in text:
        code = ord(char) - 48
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return runs
