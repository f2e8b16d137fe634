"""Batches of one orientation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sized
from typing import Any

from torch.utils.data import BatchSampler

from mmboxvis.registry import DATA_SAMPLERS

from .orientation import group_by_orientation, landscape_flags


@DATA_SAMPLERS.register_module()
class OrientationBatchSampler(BatchSampler):
    """Batches that are all landscape or all portrait, so that little is padded.

    At the end, what is left over of both orientations shares a batch, so that all processes have
    as many batches as :meth:`__len__` tells. The clips of such a batch are padded to one size, as
    all are (:class:`~mmboxvis.models.data_preprocessors.ClipDataPreprocessor`); only more.

    The order is fixed by that of ``sampler``. mmengine cannot fast-forward through any batch
    sampler but torch's own: a job that is resumed would load and discard what it has seen. For
    long jobs prefer :class:`MixedSampler` with ``same_orientation``.

    Args:
        sampler: sampler with the attribute ``dataset``.
        batch_size: clips a batch.
        drop_last: leave out the last batch if it is not full.
    """

    def __init__(self, sampler: Any, batch_size: int, drop_last: bool = False) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self._landscape = landscape_flags(sampler.dataset)
        self._start = 0

    def __iter__(self) -> Iterator[list[int]]:
        """Batches of dataset indices."""
        groups = group_by_orientation(self.sampler, self._landscape, self.batch_size)
        full = (g for g in groups if len(g) == self.batch_size or not self.drop_last)
        return itertools.islice(full, self._start, None)

    def __len__(self) -> int:
        """Number of batches of a whole round."""
        assert isinstance(self.sampler, Sized)
        share = len(self.sampler) / self.batch_size
        return int(share) if self.drop_last else math.ceil(share)

    def skip(self, num_batches: int) -> None:
        """Lets iteration start after the first ``num_batches``; absolute."""
        if num_batches < 0:
            raise ValueError(f'num_batches must not be negative, got {num_batches}')
        self._start = num_batches
