from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import ConcatDataset, DataLoader, Dataset

from mmboxvis.datasets import MixedSampler, OrientationBatchSampler
from mmboxvis.datasets.samplers import mixed_sampler
from mmboxvis.models.data_preprocessors import ClipDataPreprocessor


class Numbers(Dataset):
    """Items that are their own number; every third is portrait."""

    def __init__(self, size: int, offset: int = 0) -> None:
        self.size, self.offset = size, offset

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return self.offset + index

    def get_data_info(self, index: int) -> dict[str, int]:
        return dict(width=2 if index % 3 else 1, height=2 if not index % 3 else 1)


class Flags:
    """Items that are landscape where the flag is set."""

    def __init__(self, flags: np.ndarray) -> None:
        self.flags = flags

    def __len__(self) -> int:
        return len(self.flags)

    def landscape(self) -> np.ndarray:
        return self.flags


def mix(*sizes: int) -> Any:
    offsets = np.cumsum([0, *sizes])
    return ConcatDataset([Numbers(n, int(o)) for n, o in zip(sizes, offsets)])


def take(sampler: Any, number: int) -> list[Any]:
    return list(itertools.islice(iter(sampler), number))


def on_rank(monkeypatch, rank: int, world: int, **arguments: Any) -> MixedSampler:
    monkeypatch.setattr(mixed_sampler, 'get_dist_info', lambda: (rank, world))
    return MixedSampler(mix(50, 7, 200), [2, 1, 1], seed=3, **arguments)


def test_weights_in_expectation():
    indices = np.array(take(MixedSampler(mix(50, 7, 200), [2, 1, 1], seed=0), 20000))
    share = np.histogram(indices, [0, 50, 57, 257])[0] / len(indices)
    np.testing.assert_allclose(share, [0.5, 0.25, 0.25], atol=0.02)


def test_slots_of_a_batch_are_independent():
    """The chance that both clips of a batch come from the same set is 3/8, not 1."""
    indices = np.array(take(MixedSampler(mix(50, 7, 200), [2, 1, 1], seed=0), 20000))
    source = np.digitize(indices, [50, 57]).reshape(-1, 2)
    assert abs((source[:, 0] == source[:, 1]).mean() - 0.375) < 0.02


def test_each_set_is_walked_round_by_round():
    indices = np.array(take(MixedSampler(mix(5, 8), [1, 3], seed=1), 600))
    for low, high in ((0, 5), (5, 13)):
        own = indices[(indices >= low) & (indices < high)]
        rounds = own[: len(own) // (high - low) * (high - low)].reshape(-1, high - low)
        assert (np.sort(rounds, 1) == np.arange(low, high)).all()
        assert len({tuple(r) for r in rounds.tolist()}) > 1


def test_sets_of_one_size_are_walked_in_orders_of_their_own():
    indices = take(MixedSampler(mix(20, 20), [1, 1], seed=0), 200)
    first, second = ([i % 20 for i in indices if i // 20 == part][:20] for part in (0, 1))
    assert sorted(first) == sorted(second) and first != second


def test_ranks_share_one_stream(monkeypatch):
    alone = take(on_rank(monkeypatch, 0, 1), 300)
    ranks = [take(on_rank(monkeypatch, r, 3), 100) for r in range(3)]
    assert [index for row in zip(*ranks) for index in row] == alone


def test_iterating_twice_gives_the_same(monkeypatch):
    sampler = on_rank(monkeypatch, 0, 1)
    assert take(sampler, 50) == take(sampler, 50)
    assert take(MixedSampler(mix(50, 7, 200), [2, 1, 1], seed=4), 50) != take(sampler, 50)


@pytest.mark.parametrize('group', [1, 2, 4])
def test_skip(monkeypatch, group):
    whole = take(on_rank(monkeypatch, 1, 2, same_orientation=group), 500)
    sampler = on_rank(monkeypatch, 1, 2, same_orientation=group)
    sampler.skip(123)
    assert take(sampler, 300) == whole[123:423]
    with pytest.raises(ValueError, match='must not be negative'):
        sampler.skip(-1)


def test_same_orientation():
    data = mix(50, 7, 200)
    sampler = MixedSampler(data, [2, 1, 1], seed=0, same_orientation=4)
    portrait = np.concatenate([np.arange(n) % 3 == 0 for n in (50, 7, 200)])
    rows = portrait[np.array(take(sampler, 4000))].reshape(-1, 4)
    assert ((rows.sum(1) == 0) | (rows.sum(1) == 4)).all()
    assert abs(rows.mean() - 0.35) < 0.05


@pytest.mark.parametrize('workers', [0, 2])
def test_mmengine_resumes_without_loading(workers, monkeypatch):
    """The training loop finds ``skip``, and the resumed batches are those that come next."""

    def loader() -> DataLoader:
        sampler = MixedSampler(mix(50, 7, 200), [2, 1, 1], seed=0, same_orientation=2)
        return DataLoader(sampler.dataset, batch_size=2, sampler=sampler, num_workers=workers)

    straight = [batch.tolist() for batch in itertools.islice(loader(), 14)]
    resumed = _InfiniteDataloaderIterator(loader())
    loads = []
    if workers == 0:
        original = Numbers.__getitem__
        monkeypatch.setattr(
            Numbers, '__getitem__', lambda s, i: (loads.append(i), original(s, i))[1]
        )
    resumed.skip_iter(10)
    assert not loads
    assert [next(resumed).tolist() for _ in range(4)] == straight[10:]


def test_nothing_is_drawn_from_a_set_of_weight_zero():
    alone = take(MixedSampler(mix(7, 5), [2, 1], seed=3), 200)
    assert take(MixedSampler(mix(7, 5, 4), [2, 1, 0], seed=3), 200) == alone
    assert take(MixedSampler(mix(7, 5, 0), [2, 1, 0], seed=3), 200) == alone
    assert set(take(MixedSampler(mix(7, 5), [0, 1], seed=3), 50)) == set(range(7, 12))


@pytest.mark.parametrize(
    ('sizes', 'weights', 'message'),
    [
        ((5, 5), [1], 'one for each data set'),
        ((5, 5), [1, -1], 'must not be negative'),
        ((5, 5), [0, 0], 'some positive'),
        ((5, 0), [1, 1], 'data set 1 of the mix is empty'),
    ],
)
def test_arguments_are_checked(sizes, weights, message):
    with pytest.raises(ValueError, match=message):
        MixedSampler(mix(*sizes), weights, seed=0)
    with pytest.raises(ValueError, match='no ConcatDataset'):
        MixedSampler(Numbers(3), [1], seed=0)


class Sequential:
    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __iter__(self) -> Any:
        return iter(range(len(self.dataset)))

    def __len__(self) -> int:
        return len(self.dataset)


def test_batches_of_one_orientation():
    batches = list(OrientationBatchSampler(Sequential(Numbers(30)), 4))
    assert sorted(i for batch in batches for i in batch) == list(range(30))
    # 20 and 10 fill five and two batches of one kind; two clips are left over
    assert all(len({i % 3 == 0 for i in batch}) == 1 for batch in batches[:-1])
    assert batches[0] == [1, 2, 4, 5]
    full = list(OrientationBatchSampler(Sequential(Numbers(30)), 4, drop_last=True))
    assert full == batches[:-1]


@pytest.mark.parametrize('drop_last', [False, True])
@pytest.mark.parametrize('batch_size', [1, 2, 3, 4, 5])
def test_number_of_batches_is_the_length_for_every_process(batch_size, drop_last):
    """Processes that see other orientations must stop after the same number of steps."""
    for size in range(24):
        for rank in range(2):
            flags = np.random.default_rng([size, rank]).integers(0, 2, size).astype(bool)
            sampler = OrientationBatchSampler(Sequential(Flags(flags)), batch_size, drop_last)
            batches = list(sampler)
            assert len(batches) == len(sampler)
            seen = sorted(i for batch in batches for i in batch)
            wanted = size - size % batch_size if drop_last else size
            assert len(set(seen)) == len(seen) == wanted
            assert all(len(batch) == batch_size for batch in batches[: size // batch_size])
            assert sum(len(set(flags[batch])) > 1 for batch in batches) <= 1


def test_a_batch_of_both_orientations_is_padded():
    clips = [torch.full((2, 3, *size), 9, dtype=torch.uint8) for size in ((40, 70), (70, 40))]
    batch = ClipDataPreprocessor(mean=[0] * 3, std=[1] * 3)(
        pseudo_collate([dict(inputs=clip, data_samples=None) for clip in clips]), training=True
    )
    assert batch['inputs'].shape == (2, 2, 3, 96, 96)
    for padded, clip in zip(batch['inputs'], clips, strict=True):
        assert padded.sum() == clip.sum()
        assert (padded[..., : clip.shape[-2], : clip.shape[-1]] == clip).all()


def test_batches_can_be_skipped():
    sampler = OrientationBatchSampler(Sequential(Numbers(30)), 4)
    whole = list(sampler)
    sampler.skip(3)
    assert list(sampler) == whole[3:]
    with pytest.raises(ValueError, match='must not be negative'):
        sampler.skip(-2)
