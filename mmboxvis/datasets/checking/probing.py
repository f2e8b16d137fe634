"""Asks the reader of training what it has against a part of a file."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from ..video_json import VideoInstances, VideoJsonReader

Item = TypeVar('Item')


class Refused(Exception):
    """The reader refuses an entry; the message says why, without the place."""


class Prober(VideoJsonReader):
    """The reader of training, asked about few entries at a time."""

    def fail(self, where: str, what: str) -> NoReturn:
        """Tells what is wrong; the place is known to who asks."""
        raise Refused(what)

    def gather(self, *args: Any) -> dict[int, VideoInstances]:
        """Nothing: only whether it refuses is asked."""
        return {}


def why_refused(ask: Callable[[], Any]) -> str | None:
    """What the reader has against something, or ``None``."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # what it would count, is located here one by one
        try:
            ask()
        except Refused as refusal:
            return str(refusal)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            return f'cannot be read: {error}'
    return None


def bad_ones(items: Sequence[Item], accepts: Callable[[Sequence[Item]], bool]) -> Iterator[Item]:
    """The items that are not accepted even alone, found by halving, in order."""
    if not items or accepts(items):
        return
    if len(items) == 1:
        yield items[0]
        return
    half = len(items) // 2
    yield from bad_ones(items[:half], accepts)
    yield from bad_ones(items[half:], accepts)
