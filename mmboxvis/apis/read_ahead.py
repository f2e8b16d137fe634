"""Running an iterator ahead of its consumer, as decoding ahead of the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar('Item')


class ReadAhead(Generic[Item]):
    """Runs an iterator in a thread of its own, a few items ahead of who takes them.

    An error in the thread is raised where the item is taken. :meth:`close`, or leaving the
    ``with`` block, stops the thread; an iterator that is stuck is left behind.

    Args:
        items: what to run; closed at the end if it is a generator.
        depth: how many items wait at most.
    """

    _END = object()

    def __init__(self, items: Iterator[Item], depth: int = 8) -> None:
        self._stop = threading.Event()
        if depth < 1:
            raise ValueError(f'depth must be at least 1, got {depth}')
        self._queue: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
        # the thread knows no self, so that this object can go away while it runs
        self._thread = threading.Thread(
            target=self._run, args=(items, self._queue, self._stop), daemon=True, name='read-ahead'
        )
        self._thread.start()

    def __enter__(self) -> ReadAhead[Item]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._stop.set()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        if self._stop.is_set():
            raise StopIteration
        item, error = self._queue.get()
        if item is self._END:
            self.close()
            if error is None:
                raise StopIteration
            raise error
        return item

    def close(self, timeout: float = 5.0) -> None:
        """Stops the thread and waits for it, up to ``timeout`` seconds."""
        self._stop.set()
        self._thread.join(timeout)

    @classmethod
    def _run(cls, items: Iterator[Item], target: queue.Queue, stop: threading.Event) -> None:
        def put(item: Any, error: BaseException | None) -> bool:
            while not stop.is_set():
                try:
                    target.put((item, error), timeout=0.05)
                    return True
                except queue.Full:
                    continue
            return False

        try:
            for item in items:
                if not put(item, None):
                    break
            else:
                put(cls._END, None)
        except BaseException as error:
            put(cls._END, error)
        finally:
            close = getattr(items, 'close', None)
            if close is not None:
                close()
