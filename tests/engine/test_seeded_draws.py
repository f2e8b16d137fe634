"""One seed is one run: what a sample is depends on its place in the run alone."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmboxvis.engine import NumberedSampler, SeededDraws
from mmboxvis.engine.runner.resumable_runner import seeded_loader
from mmboxvis.engine.runner.seeded_draws import Draw
from mmboxvis.registry import DATASETS
from mmboxvis.seeding import derive_seed

SIZE = 5
STEPS = 6
BATCH = 2


@DATASETS.register_module()
class NoisyNumbers(Dataset):
    """Index and numbers of all three generators, as a pipeline would draw them."""

    metainfo: dict = dict(classes=('a',))

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(inputs=(index, float(np.random.rand()), float(torch.rand(()))))


def loader(num_workers: int = 0, seed: int = 3, **sampler: Any) -> DataLoader:
    cfg = dict(
        batch_size=BATCH,
        num_workers=num_workers,
        dataset=dict(type='NoisyNumbers'),
        sampler=dict(type='InfiniteSampler', shuffle=True, **sampler),
    )
    return Runner.build_dataloader(seeded_loader(cfg, seed), seed=seed)


def drawn(data: DataLoader, steps: int = STEPS) -> list[Any]:
    return [batch['inputs'] for batch in itertools.islice(data, steps)]


@pytest.fixture(scope='module')
def reference() -> list[Any]:
    return drawn(loader())


def test_samples_of_one_index_differ(reference: list[Any]) -> None:
    triples = [triple for batch in reference for triple in zip(*batch)]
    assert len(triples) == STEPS * BATCH > SIZE, 'no index was drawn twice'
    assert len({noise for _, noise, _ in map(tuple, triples)}) == len(triples)


@pytest.mark.parametrize('num_workers', [1, 2])
def test_workers_do_not_change_the_data(num_workers: int, reference: list[Any]) -> None:
    assert drawn(loader(num_workers)) == reference


def test_what_was_drawn_before_does_not_change_the_data(reference: list[Any]) -> None:
    np.random.rand(7)
    torch.rand(5)
    assert drawn(loader()) == reference


def test_skipping_goes_on_where_it_was(reference: list[Any]) -> None:
    data = loader()
    data.sampler.skip(4 * BATCH)
    assert drawn(data, 2) == reference[4:]


def test_another_seed_is_another_run(reference: list[Any]) -> None:
    assert drawn(loader(seed=4)) != reference


def test_two_processes_share_the_stream_of_one(
    reference: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_rank = []
    for rank in (0, 1):
        for module in ('mmengine.dataset.sampler', 'mmboxvis.engine.runner.seeded_draws'):
            monkeypatch.setattr(f'{module}.get_dist_info', lambda rank=rank: (rank, 2))
        by_rank.append(drawn(loader(), STEPS // 2))
    both = [[*zip(*first), *zip(*second)] for first, second in zip(*by_rank)]
    alone = [[*zip(*reference[2 * i]), *zip(*reference[2 * i + 1])] for i in range(STEPS // 2)]
    assert [sorted(step) for step in both] == [sorted(step) for step in alone]


def test_epochs_differ_and_repeat() -> None:
    sampler = NumberedSampler(dict(type='DefaultSampler', shuffle=False), NoisyNumbers(), seed=1)
    assert not hasattr(sampler, 'skip'), 'the inner one cannot'
    data = SeededDraws(dict(type='NoisyNumbers'), seed=1)

    def epoch(number: int) -> list[Any]:
        sampler.set_epoch(number)
        return [data[index] for index in sampler]

    first = epoch(0)
    assert epoch(1) != first
    assert epoch(0) == first


def test_wrapped_data_set_is_still_itself() -> None:
    data = pickle.loads(pickle.dumps(SeededDraws(dict(type='NoisyNumbers'), seed=1)))
    assert data.metainfo == NoisyNumbers.metainfo and len(data) == SIZE
    with pytest.raises(AttributeError):
        _ = data.no_such_thing
    draw = pickle.loads(pickle.dumps(Draw(3, 1, 7)))
    assert (draw, draw.epoch, draw.position) == (3, 1, 7)


def test_a_plain_index_is_not_seeded() -> None:
    data = SeededDraws(dict(type='NoisyNumbers'), seed=1)
    assert data[2] != data[2]


def test_built_loaders_are_left_alone() -> None:
    built = loader()
    assert seeded_loader(built, 0) is built
    odd = dict(dataset=NoisyNumbers(), sampler=dict(type='InfiniteSampler'))
    assert seeded_loader(odd, 0) is odd


def test_seeds_are_unrelated() -> None:
    seeds = {derive_seed(a, b, c) for a in range(4) for b in range(4) for c in range(4)}
    assert len(seeds) == 64 and all(0 <= seed < 2**32 for seed in seeds)
