"""How fast training clips come out of a data loader, and where the time goes.

    python tools/analysis_tools/benchmark_dataloader.py CONFIG [--plain] [--workers 0 1 2] [--step]
    python tools/analysis_tools/benchmark_dataloader.py CONFIG --images instances.json images

Prints clips/s of one process without a loader (by its CPU time, which other programs hardly change)
for the whole mixture and each data set in it, the time of every transform, and clips/s of the
loader with some workers. ``--plain`` compares with the same pipeline that decodes and augments
every frame of a pseudo clip on its own, round by round on the same clips with the same random
numbers. ``--step`` runs training steps of the config's model, and says what share of one the
loading of its batch would be. ``--images`` measures the config's pipeline for pseudo clips on
images of your own.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.registry import DATA_SAMPLERS, DATASETS, MODELS
from tools.analysis_tools import measuring

Load = Callable[[int], Any]


class TransformTimer:
    """Adds up the CPU seconds of each transform; one inside another counts for itself only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    def watch(self, pipeline: Any) -> None:
        """Puts a clock around every transform of a ``Compose``, and around those inside them."""
        wrapped = []
        for transform in pipeline.transforms:
            if hasattr(transform, 'transforms'):  # RandomApply and its like hold a Compose
                self.watch(transform.transforms)
            wrapped.append(self._timed(transform))
        pipeline.transforms = wrapped

    def _timed(self, transform: Callable[[Any], Any]) -> Callable[[Any], Any]:
        name = type(transform).__name__

        def timed(results: Any) -> Any:
            before, began = self._inner, time.process_time()
            made = transform(results)
            whole = time.process_time() - began
            self.seconds[name] += whole - (self._inner - before)
            self._inner = before + whole
            return made

        return timed


def parts_of(dataset: Any) -> dict[str, Any]:
    """The data sets of a mixture, or the one there is, by a name."""
    parts = getattr(dataset, 'datasets', [dataset])
    names = [type(part).__name__ for part in parts]
    return {
        f'{name} {index}' if names.count(name) > 1 else name: part
        for index, (name, part) in enumerate(zip(names, parts, strict=True))
    }


def time_clips(load: Load, indices: Sequence[int], seed: int) -> float:
    """CPU seconds to load clips one after another, with the same random numbers each time."""
    np.random.seed(seed)
    began = time.process_time()
    for index in indices:
        load(index)
    return time.process_time() - began


def with_plain_pipelines(dataset: Any) -> Any:
    """A copy of a data set's config in which every pipeline goes the plain way."""
    if isinstance(dataset, dict):
        plain_pipeline = measuring.slow_twin('pseudo_clips').plain_pipeline
        return {
            key: plain_pipeline(value) if key == 'pipeline' else with_plain_pipelines(value)
            for key, value in dataset.items()
        }
    return [with_plain_pipelines(v) for v in dataset] if isinstance(dataset, list) else dataset


def image_dataset(dataset: Any, ann_file: str, img_root: str) -> dict[str, Any]:
    """The config's first pipeline for pseudo clips, put before other images.

    Raises:
        SystemExit: if no data set of the config makes pseudo clips.
    """
    for pipeline in _pipelines(dataset):
        if any(transform['type'] == 'ImageToClip' for transform in pipeline):
            return dict(type='CocoClips', ann_file=ann_file, img_root=img_root, pipeline=pipeline)
    sys.exit('--images needs a config with a pipeline for pseudo clips (ImageToClip)')


def _pipelines(dataset: Any) -> Iterator[Any]:
    values = dataset.values() if isinstance(dataset, dict) else dataset
    for value in values if isinstance(values, list) or isinstance(dataset, dict) else ():
        if isinstance(value, (dict, list)):
            yield from _pipelines(value)
    if isinstance(dataset, dict) and 'pipeline' in dataset:
        yield dataset['pipeline']


def draw_indices(loader: dict[str, Any], dataset: Any, number: int) -> list[int]:
    """Indices as the config's sampler draws them."""
    sampler = DATA_SAMPLERS.build(dict(loader['sampler']), default_args=dict(dataset=dataset))
    return list(itertools.islice(itertools.cycle(sampler), number))


def measure_process(args: argparse.Namespace, loader: dict[str, Any], console: Console) -> float:
    """Prints clips/s of one process and the time by transform; returns seconds a clip."""
    dataset = DATASETS.build(loader['dataset'])
    sets = {'as the sampler draws': (dataset, draw_indices(loader, dataset, args.clips))}
    parts = parts_of(dataset)
    for name, part in parts.items() if len(parts) > 1 else ():
        sets[name] = (part, list(itertools.islice(itertools.cycle(range(len(part))), args.clips)))
    plain = DATASETS.build(with_plain_pipelines(loader['dataset'])) if args.plain else None
    twins = [] if plain is None else [plain, *parts_of(plain).values()]
    table = Table(
        title=f'{args.clips} clips a round, best of {args.rounds}, CPU time of one process'
    )
    for column in ('clips', 'clips/s', 'ms a clip', *(('plain clips/s', 'ratio') if twins else ())):
        table.add_column(column, justify='left' if column == 'clips' else 'right')
    first = 0.0
    for position, (name, (part, indices)) in enumerate(sets.items()):
        fast, slow = [], []
        part[indices[0]]
        for seed in range(args.rounds):
            fast.append(time_clips(part.__getitem__, indices, seed))
            if twins:
                slow.append(time_clips(twins[position].__getitem__, indices, seed))
        cells = [name, f'{len(indices) / min(fast):.1f}', f'{1000 * min(fast) / len(indices):.1f}']
        if slow:
            ratio = statistics.median(s / f for s, f in zip(slow, fast, strict=True))
            cells += [f'{len(indices) / min(slow):.1f}', f'{ratio:.2f}x']
        table.add_row(*cells)
        first = first or min(fast) / len(indices)
    console.print(table)
    for name, part in parts.items():
        print_transforms(name, part, args.clips, console)
    return first


def print_transforms(name: str, part: Any, clips: int, console: Console) -> None:
    """Prints the time of each transform of one data set."""
    timer = TransformTimer()
    timer.watch(part.pipeline)
    indices = list(itertools.islice(itertools.cycle(range(len(part))), clips))
    whole = time_clips(part.__getitem__, indices, 0)
    timer.seconds['sampling, records'] = whole - sum(timer.seconds.values())
    table = Table(title=f'{name}: time by transform')
    for column in ('transform', 'ms a clip', 'share'):
        table.add_column(column, justify='left' if column == 'transform' else 'right')
    for key, seconds in sorted(timer.seconds.items(), key=lambda item: -item[1]):
        table.add_row(key, f'{1000 * seconds / clips:.2f}', f'{seconds / whole:.0%}')
    console.print(table)


def measure_loader(args: argparse.Namespace, loader: dict[str, Any], console: Console) -> None:
    """Prints clips/s of the loader, from when its workers have begun to deliver."""
    table = Table(title='through the data loader, first batch (start of the workers) apart')
    for column in ('workers', 'clips/s', 'first batch'):
        table.add_column(column, justify='right')
    for workers in args.workers:
        cfg = dict(loader, num_workers=workers, persistent_workers=False)
        if not workers:
            cfg.pop('prefetch_factor', None)
        built = Runner.build_dataloader(cfg, seed=0)
        began = time.perf_counter()
        batches = iter(built)
        next(batches)
        started = time.perf_counter()
        number = sum(len(b['inputs']) for b in itertools.islice(batches, args.clips // 2))
        taken = time.perf_counter() - started
        table.add_row(str(workers), f'{number / taken:.1f}', f'{started - began:.2f} s')
        del batches, built
    console.print(table)


def measure_step(args: argparse.Namespace, cfg: Config, console: Console, clip: float) -> None:
    """Runs training steps and prints what share of one the loading of its batch would be."""
    model = MODELS.build(cfg.model).to(args.device).train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    size = cfg.train_dataloader.batch_size
    indices = draw_indices(cfg.train_dataloader, dataset, size * (args.rounds + 1))
    on_cpu = torch.device(args.device).type == 'cpu'
    clock = time.process_time if on_cpu else time.perf_counter
    taken = []
    for start in range(0, len(indices), size):
        batch = pseudo_collate([dataset[index] for index in indices[start : start + size]])
        began = clock()
        model.train_step(batch, optimizer)
        if not on_cpu:
            torch.cuda.synchronize()
        taken.append(clock() - began)
    step = statistics.median(taken[1:])
    share = clip * size / step
    where = 'of CPU time' if on_cpu else f'on {args.device}'
    console.print(
        f'a training step of {size} clips takes {step:.3f} s {where}; loading its batch in one '
        f'process would be {share:.1%} of it, so {max(1, int(np.ceil(share)))} worker(s) on cores '
        'of their own keep up'
    )


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--clips', type=int, default=80, help='clips a round')
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--workers', type=int, nargs='*', default=[], help='loaders to measure')
    parser.add_argument('--plain', action='store_true', help='compare with the plain way')
    parser.add_argument('--images', nargs=2, metavar=('JSON', 'DIR'), help='COCO layout')
    parser.add_argument('--step', action='store_true', help="run steps of the config's model")
    parser.add_argument('--device', default='cpu', help='of --step')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    args = parse_args()
    with one_line_errors('benchmark_dataloader.py'):
        cfg = read_config(args.config, args.cfg_options)
    if args.plain:
        measuring.slow_twin('pseudo_clips')  # told now rather than after the data are read
    init_default_scope('mmboxvis')
    MMLogger.get_instance('benchmark', log_level='WARNING')
    cv2.setNumThreads(0)  # as in the workers
    if args.images:
        cfg.train_dataloader.dataset = image_dataset(cfg.train_dataloader.dataset, *args.images)
        cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True, seed=0)
    loader = cfg.train_dataloader.to_dict()
    console = Console(width=100)
    clip = measure_process(args, loader, console)
    if args.workers:
        measure_loader(args, loader, console)
    if args.step:
        measure_step(args, cfg, console, clip)


if __name__ == '__main__':
    main()
