"""Where the time of a training step goes: a table by part, peak memory, and a Chrome trace.

    python tools/analysis_tools/profile_step.py CONFIG [--size 352 640] [--objects 8] [--trace FILE]

Runs on a random clip, so no data set is needed; data loading is timed with --data. On a GPU
(--device cuda) every part ends when the GPU is done, which a step otherwise does not wait for.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.registry import MODELS
from tools.analysis_tools import measuring


class PartTimer:
    """Exclusive wall-clock seconds of named parts; a part inside another counts for itself only."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._device = device
        self._running: list[str] = []
        self._last = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Times what runs inside."""
        self._switch()
        self._running.append(name)
        with torch.profiler.record_function(name):
            yield
        self._switch()
        self._running.pop()

    def wrap(self, owner: Any, attribute: str, name: str) -> None:
        """Times every call of ``owner.attribute``."""
        inner: Callable = getattr(owner, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return inner(*args, **kwargs)

        setattr(owner, attribute, timed)

    def _switch(self) -> None:
        now = measuring.now(self._device)
        if self._running:
            self.seconds[self._running[-1]] += now - self._last
        self._last = now


def random_clip(
    num_frames: int, size: tuple[int, int], num_objects: int, num_classes: int, with_masks: bool
) -> dict[str, Any]:
    """One clip as a data set gives it, with boxes that drift over a smooth random picture."""
    rng = np.random.default_rng(0)
    height, width = size
    coarse = torch.from_numpy(rng.uniform(0, 255, (num_frames, 3, height // 16, width // 16)))
    frames = torch.nn.functional.interpolate(coarse, size, mode='bilinear').byte()
    low = rng.uniform(0, 0.6, (num_objects, 2)) * (width, height)
    high = low + rng.uniform(0.15, 0.35, (num_objects, 2)) * (width, height)
    samples = []
    for frame in range(num_frames):
        corners = np.concatenate([low, high], 1) + 4 * frame
        boxes = np.clip(corners, 0, [width, height, width, height])
        instances = InstanceData(
            bboxes=torch.from_numpy(boxes).float(),
            labels=torch.arange(num_objects) % num_classes,
            instances_ids=torch.arange(num_objects) + 1,
        )
        if with_masks:
            masks = np.zeros((num_objects, height, width), np.uint8)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
                mask[y1:y2, x1:x2] = 1
            instances.masks = BitmapMasks(masks, height, width)
        samples.append(DetDataSample(gt_instances=instances))
    sample = TrackDataSample()
    sample.video_data_samples = samples
    return dict(inputs=[frames], data_samples=[sample])


def instrument(model: Any, timer: PartTimer) -> None:
    """Puts the timer around the parts of a model."""
    timer.wrap(model.student.backbone, 'forward', 'backbone')
    timer.wrap(model.student.track_head.pixel_decoder, 'forward', 'pixel decoder')
    timer.wrap(model.student.track_head, 'forward', 'query decoder')
    timer.wrap(model.criterion, 'forward', 'losses')
    timer.wrap(model.criterion.assigner, 'assign', 'matching')
    if getattr(model, 'teacher', None) is not None:
        timer.wrap(model, '_pseudo_masks', 'teacher')
    if hasattr(model, '_affinity_pairs'):
        timer.wrap(model, '_affinity_pairs', 'pairing')


def run_step(
    model: Any, optimizer: Any, timer: PartTimer, load: Callable[[], dict[str, Any]]
) -> Tensor:
    """One training step, every part of it timed."""
    with timer.part('data'):
        batch = model.data_preprocessor(load(), True)
    with timer.part('targets and rest'):
        losses = model(**batch, mode='loss')
        loss = torch.stack([value for name, value in losses.items() if 'loss' in name]).sum()
    with timer.part('backward'):
        loss.backward()
    with timer.part('optimiser'):
        optimizer.step()
        optimizer.zero_grad()
        if hasattr(model, 'update_teacher'):
            model.update_teacher(0.001)
    return loss.detach()


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--size', type=int, nargs=2, default=(352, 640), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=3)
    parser.add_argument('--objects', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=3, help='steps after one to warm up')
    measuring.add_arguments(parser)
    parser.add_argument('--data', action='store_true', help="read the config's training data")
    parser.add_argument('--trace', help='write a Chrome trace of one step')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Builds, runs and prints."""
    args = parse_args(argv)
    with one_line_errors('profile_step.py'):
        cfg = read_config(args.config, args.cfg_options)
    init_default_scope('mmboxvis')
    MMLogger.get_current_instance().setLevel('ERROR')  # a line for every parameter otherwise
    device = measuring.prepare(args.device)
    model = MODELS.build(cfg.model).to(device).train()
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    if args.data:
        batches = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
        load: Callable[[], dict[str, Any]] = lambda: next(batches)  # noqa: E731
    else:
        classes = cfg.model.network.track_head.num_classes
        with_masks = cfg.model.type == 'Mask2FormerVIS'
        clip = random_clip(args.frames, tuple(args.size), args.objects, classes, with_masks)
        load = lambda: clip  # noqa: E731

    timer = PartTimer(device)
    instrument(model, timer)
    run_step(model, optimizer, timer, load)
    timer.seconds.clear()
    began = measuring.now(device)
    for _ in range(args.rounds):
        loss = run_step(model, optimizer, timer, load)
    step = (measuring.now(device) - began) / args.rounds
    parts = {
        name: seconds / args.rounds
        for name, seconds in sorted(timer.seconds.items(), key=lambda item: -item[1])
    }
    if args.trace:
        with torch.profiler.profile() as profile:
            run_step(model, optimizer, timer, load)
        profile.export_chrome_trace(args.trace)

    size = 'training data' if args.data else f'{args.frames}x{args.size[0]}x{args.size[1]}'
    table = Table(
        title=f'{cfg.filename}: one step, {size}, {args.objects} objects, '
        f'{measuring.describe(device)}, mean of {args.rounds}'
    )
    table.add_column('part')
    table.add_column('seconds', justify='right')
    table.add_column('share', justify='right')
    for name, seconds in parts.items():
        table.add_row(name, f'{seconds:.3f}', f'{seconds / step:.0%}')
    table.add_section()
    table.add_row('step', f'{step:.3f}', '')
    Console(width=100).print(table)
    if device.type == 'cuda':
        owner, peak = 'GPU, model included,', torch.cuda.max_memory_allocated(device) / 2**30
    else:
        owner, peak = 'process', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f'peak memory of the {owner} {peak:.2f} GiB, loss {loss.item():.3f}')
    if args.trace:
        print(f'Chrome trace: {args.trace}')
    figures = dict(seconds=parts, step=step, peak_gib=peak)
    measuring.write_json(args, figures)


if __name__ == '__main__':
    main()
