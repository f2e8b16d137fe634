"""Mixing data sets by weight."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmboxvis.registry import DATA_SAMPLERS

from .orientation import group_by_orientation, landscape_flags

_BLOCK = 1024


@DATA_SAMPLERS.register_module()
class MixedSampler(Sampler[int]):
    """Draws each item's data set by weight, for ever.

    Every slot of every batch draws its data set independently; each data set is walked in an
    infinite stream that is shuffled anew each time round (paper Sec. 3.3). All ranks make the
    same stream from ``seed`` and take every world-size-th entry, so it depends neither on the
    number of workers nor on what is drawn elsewhere.

    A job that is resumed calls :meth:`skip`, which costs index generation but loads nothing. That
    works with the plain batch sampler only; for batches of one orientation set ``same_orientation``
    to the batch size rather than using another batch sampler.

    Args:
        dataset: a ``ConcatDataset`` of the data sets to mix.
        weights: one number a data set, relative, such as ``[2, 1, 1]``; from one of weight
            0 nothing is drawn.
        seed: the same on all ranks; drawn and shared if ``None``.
        same_orientation: reorder the stream so that each run of so many indices on a rank is all
            landscape or all portrait. 1 leaves the order as drawn.

    Raises:
        ValueError: if weights do not fit the data sets, or one that is drawn from is empty.
    """

    def __init__(
        self,
        dataset: Any,
        weights: Sequence[float],
        seed: int | None = None,
        same_orientation: int = 1,
    ) -> None:
        parts = getattr(dataset, 'datasets', None)
        if parts is None or len(parts) != len(weights):
            raise ValueError(
                f'weights {list(weights)} must be one for each data set of a ConcatDataset, got '
                + ('no ConcatDataset' if parts is None else f'{len(parts)} data sets')
            )
        if min(weights) < 0 or not np.isfinite(weights).all() or not sum(weights):
            raise ValueError(
                f'weights must not be negative, and some positive, got {list(weights)}'
            )
        if same_orientation < 1:
            raise ValueError(f'same_orientation must be positive, got {same_orientation}')
        self.dataset = dataset
        self.sizes = [len(part) for part in parts]
        for number, (size, weight) in enumerate(zip(self.sizes, weights, strict=True)):
            if size == 0 and weight:
                raise ValueError(f'data set {number} of the mix is empty')
        self.weights = np.asarray(weights, np.float64) / sum(weights)
        self.seed = int(sync_random_seed() if seed is None else seed)
        self.same_orientation = same_orientation
        self.rank, self.world_size = get_dist_info()
        self._landscape = landscape_flags(dataset) if same_orientation > 1 else None
        self._start = 0

    def __iter__(self) -> Iterator[int]:
        """Dataset indices of this rank, for ever."""
        stream: Iterator[int] = itertools.islice(
            self._all_ranks(), self.rank, None, self.world_size
        )
        if self._landscape is not None:
            groups = group_by_orientation(stream, self._landscape, self.same_orientation)
            stream = itertools.chain.from_iterable(groups)
        return itertools.islice(stream, self._start, None)

    def __len__(self) -> int:
        """Length of the data set; the stream itself has no end."""
        return sum(self.sizes)

    def skip(self, num_samples: int) -> None:
        """Lets iteration start after the first ``num_samples`` indices of this rank's stream.

        Absolute, as in ``mmengine.dataset.InfiniteSampler``; call it before iterating.
        """
        if num_samples < 0:
            raise ValueError(f'num_samples must not be negative, got {num_samples}')
        self._start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Does nothing: the stream has no epochs."""

    def _all_ranks(self) -> Iterator[int]:
        offsets = np.cumsum([0, *self.sizes])
        walks = [self._walk(number) for number in range(len(self.sizes))]
        draw = np.random.default_rng([self.seed, 0])
        while True:
            for number in draw.choice(len(walks), _BLOCK, p=self.weights):
                yield int(offsets[number]) + next(walks[number])

    def _walk(self, number: int) -> Iterator[int]:
        """Indices inside one data set, shuffled anew each time round."""
        shuffle = np.random.default_rng([self.seed, 1, number])
        while True:
            yield from shuffle.permutation(self.sizes[number]).tolist()
