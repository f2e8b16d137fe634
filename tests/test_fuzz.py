"""A short round of fuzzing, and what longer ones found."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import READ, fuzz, try_file

FOUND = sorted((Path(__file__).parent / 'data/fuzz').glob('*_*'))


def test_what_was_found_before() -> None:
    for path in FOUND:
        kind = path.stem.rpartition('_')[0]
        assert kind in READ
        assert try_file(kind, path) is None, path.name


def test_a_short_round() -> None:
    count, found = fuzz(3, seed=20)
    assert not found, found[0]
    assert count > 5
