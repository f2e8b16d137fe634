"""Putting clips of one orientation next to one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


def landscape_flags(dataset: Any) -> np.ndarray:
    """(number of items,) bool: whether an item is at least as wide as high.

    Args:
        dataset: one of ours, a ``ConcatDataset``, or any with ``get_data_info(i)`` that tells
            ``width`` and ``height``.
    """
    if hasattr(dataset, 'landscape'):
        return dataset.landscape()
    if hasattr(dataset, 'datasets'):
        return np.concatenate([landscape_flags(part) for part in dataset.datasets])
    infos = (dataset.get_data_info(index) for index in range(len(dataset)))
    return np.array([info['width'] >= info['height'] for info in infos], bool)


def group_by_orientation(
    indices: Iterable[int], landscape: np.ndarray, size: int
) -> Iterator[list[int]]:
    """Gathers indices into full groups of one orientation, in the order in which they fill.

    Args:
        indices: stream of dataset indices, may be infinite.
        landscape: see :func:`landscape_flags`.
        size: indices a group.

    Yields:
        Groups of ``size``; after the end of the stream what is left over of both orientations,
        together and cut in the same way. So all groups but the last are full, and their number
        depends on that of the indices alone.
    """
    waiting: tuple[list[int], list[int]] = ([], [])
    for index in indices:
        bucket = waiting[int(landscape[index])]
        bucket.append(index)
        if len(bucket) == size:
            yield bucket.copy()
            bucket.clear()
    rest = [*waiting[0], *waiting[1]]
    yield from (rest[start : start + size] for start in range(0, len(rest), size))
