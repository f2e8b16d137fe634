"""Training samples whose augmentation depends on their place in the run, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dist import get_dist_info
from torch.utils.data import Dataset, Sampler

from mmboxvis.registry import DATA_SAMPLERS, DATASETS
from mmboxvis.seeding import derive_seed, seed_all

_STREAM = 0
"""Keeps these seeds apart from those of :class:`StepSeedHook`."""


class Draw(int):
    """An index into a data set that knows when it was drawn.

    Attributes:
        epoch: as told to the sampler, 0 where there are none.
        position: how many samples all processes together drew before it in this epoch.
    """

    epoch: int
    position: int

    def __new__(cls, index: int, epoch: int = 0, position: int = 0) -> Draw:
        """An index with its place."""
        draw = super().__new__(cls, index)
        draw.epoch, draw.position = epoch, position
        return draw


class NumberedSampler(Sampler[int]):
    """Any sampler, with its indices numbered.

    Process r of W counts r, r + W, r + 2W, ...: where the sampler deals out one stream, as
    mmengine's do, a sample has the same number whatever W is.

    Args:
        sampler: config of the sampler.
        dataset: the data set that it draws from.
        seed: the sampler's seed, where its config has none.
    """

    def __init__(self, sampler: Mapping[str, Any], dataset: Any, seed: int | None) -> None:
        self.dataset = dataset
        self.sampler = DATA_SAMPLERS.build(
            dict(sampler), default_args=dict(dataset=dataset, seed=seed)
        )
        self.rank, self.world_size = get_dist_info()
        self.epoch = 0
        self._start = 0
        # mmengine takes the presence of skip() as a promise that it works
        if hasattr(self.sampler, 'skip'):
            self.skip = self._skip

    def __iter__(self) -> Iterator[int]:
        """The sampler's indices, as :class:`Draw`."""
        for number, index in enumerate(self.sampler, self._start):
            yield Draw(index, self.epoch, number * self.world_size + self.rank)

    def __len__(self) -> int:
        """That of the sampler."""
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Passes the epoch on."""
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def _skip(self, num_samples: int) -> None:
        self.sampler.skip(num_samples)
        self._start = num_samples


class SeededDraws(Dataset):
    """Any data set, with the global generators seeded before each :class:`Draw`.

    What comes out is a function of the seed, the index and the number of the draw. The number of
    workers, what they drew before, and an interruption between do not change it.

    Args:
        dataset: config of the data set; its attributes and methods are reached through this one.
        seed: the run's.
    """

    def __init__(self, dataset: Mapping[str, Any] | Dataset, seed: int) -> None:
        self.dataset: Any = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self.seed = seed

    def __getattr__(self, name: str) -> Any:
        """What the wrapper lacks is the data set's."""
        if name == 'dataset':  # not there yet while unpickled
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        """That of the data set."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """The sample, drawn with its own seed where ``index`` is a :class:`Draw`."""
        if isinstance(index, Draw):
            seed_all(derive_seed(self.seed, _STREAM, index.epoch, index.position))
        return self.dataset[int(index)]
