"""Compares STPALoss with what the released program does: unfolded patches, loops.

One round builds the pairs of a clip and takes the loss of every decoder layer forward and
backward, once with each implementation; rounds of both alternate, so that whatever else runs on
the machine slows both alike. Peak memory beyond the inputs is measured in a process of its own
for each implementation; on a GPU (``--device cuda``) it is what torch's allocator hands out, and
every time is taken when the GPU is done. Example::

    python tools/analysis_tools/benchmark_stpa.py --size 288 480 --instances 8
    python tools/analysis_tools/benchmark_stpa.py --grow instances frames size
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmboxvis.models.losses import STPALoss
from mmboxvis.structures.clip_targets import boxes_to_masks
from tools.analysis_tools import measuring


@dataclass(frozen=True)
class Inputs:
    """One synthetic clip: smooth colours and features that move, noise, moving boxes."""

    lab: Tensor
    features: Tensor
    boxes: Tensor
    box_masks: Tensor
    layers: list[Tensor]

    @classmethod
    def create(cls, args: argparse.Namespace, instances: int) -> Inputs:
        """Draws a clip of the size that the command line asks for."""
        generator = torch.Generator().manual_seed(args.seed)
        (height, width), frames = args.size, args.frames
        quarter = (height // 4, width // 4)

        def smooth(channels: int, size: tuple[int, int]) -> Tensor:
            coarse = torch.randn(
                1, channels, max(height // 16, 2), max(width // 16, 2), generator=generator
            )
            return F.interpolate(coarse, size, mode='bilinear')

        colors, content = args.contrast * smooth(3, (height, width)), smooth(args.channels, quarter)
        lab = torch.cat([colors.roll(4 * t, -1) for t in range(frames)])
        lab = lab + args.color_noise * torch.randn(lab.shape, generator=generator)
        features = torch.cat([content.roll(t, -1) for t in range(frames)])
        features = features + 0.3 * torch.randn(features.shape, generator=generator)
        sides = 0.15 + 0.25 * torch.rand(instances, 1, 2, generator=generator)
        corners = torch.rand(instances, 1, 2, generator=generator) * (0.9 - sides)
        motion = 0.06 * torch.rand(instances, 1, 2, generator=generator) - 0.03
        corners = corners + motion * torch.arange(frames)[None, :, None]
        boxes = torch.cat([corners, corners + sides], -1).clamp(0, 1)
        box_masks = boxes_to_masks(boxes * torch.tensor([width, height] * 2), (height, width))
        layers = [
            torch.randn(instances, frames, *quarter, generator=generator)
            for _ in range(args.layers)
        ]
        drawn = (lab, features, boxes, box_masks, layers)
        return cls(*measuring.to_device(drawn, torch.device(args.device)))


def run_fast(inputs: Inputs, num_neighbors: int) -> tuple[Tensor, int]:
    """Gradients of all layers and the number of pairs."""
    loss = STPALoss(num_neighbors=num_neighbors)
    pairs = loss.build_pairs(inputs.lab, inputs.features, inputs.boxes, inputs.box_masks)
    layers = [layer.requires_grad_() for layer in inputs.layers]
    grads = torch.autograd.grad(sum(loss(layer, pairs) for layer in layers), layers)
    return torch.stack(grads), pairs.num_pairs


def run_unfolded(inputs: Inputs, num_neighbors: int) -> tuple[Tensor, int]:
    """Gradients of all layers and the number of pairs."""
    unfolded = measuring.slow_twin('stpa_unfolded')
    pairs = unfolded.build_pairs(
        inputs.lab, inputs.features, inputs.boxes, inputs.box_masks, num_neighbors
    )
    layers = [layer.requires_grad_() for layer in inputs.layers]
    grads = torch.autograd.grad(sum(unfolded.stpa_loss(layer, pairs) for layer in layers), layers)
    return torch.stack(grads), int(pairs.keep.sum())


RUNS: dict[str, Callable[[Inputs, int], tuple[Tensor, int]]] = {
    'fast': run_fast,
    'unfolded': run_unfolded,
}


def peak_memory(name: str, args: argparse.Namespace, inputs: Inputs) -> float:
    """MiB that a run takes beyond its inputs; on the CPU in a fresh process."""
    if torch.device(args.device).type == 'cuda':
        return measuring.extra_peak(lambda: RUNS[name](inputs, args.neighbors), args.device)[0]
    command = [sys.executable, __file__, *sys.argv[1:], '--memory-of', name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.split()[-1])


def print_own_peak(args: argparse.Namespace) -> None:
    """Runs once and prints by how many MiB the peak of this process rose."""
    # a first tiny run loads what is loaded lazily
    tiny = argparse.Namespace(**{**vars(args), 'size': (32, 32), 'channels': 8})
    RUNS[args.memory_of](Inputs.create(tiny, 1), args.neighbors)
    inputs = Inputs.create(args, args.instances)
    run = RUNS[args.memory_of]
    print(measuring.extra_peak(lambda: run(inputs, args.neighbors), args.device)[0])


def compare(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Times both implementations in turn, prints the ratio and returns all figures."""
    inputs = Inputs.create(args, args.instances)
    for run in RUNS.values():  # loads what is loaded lazily
        run(inputs, args.neighbors)
    rounds: dict[str, list[float]] = {name: [] for name in RUNS}
    results: dict[str, tuple[Tensor, int]] = {}
    for _ in range(args.rounds):
        for name, run in RUNS.items():
            start = measuring.now(args.device)
            results[name] = run(inputs, args.neighbors)
            rounds[name].append(measuring.now(args.device) - start)
    seconds = {name: statistics.median(times) for name, times in rounds.items()}
    table = Table(title=setting(args))
    for heading in ('', 'seconds', 'peak extra MiB', 'pairs'):
        table.add_column(heading, justify='right')
    memory: dict[str, float] = {}
    if not args.no_memory:
        memory = {name: peak_memory(name, args, inputs) for name in RUNS}
    for name, (_, count) in results.items():
        table.add_row(
            name, f'{seconds[name]:.4f}', f'{memory.get(name, float("nan")):.0f}', f'{count}'
        )
    ratio = memory['unfolded'] / max(memory['fast'], 1e-9) if memory else float('nan')
    table.add_row('ratio', f'{seconds["unfolded"] / seconds["fast"]:.1f}', f'{ratio:.1f}', '')
    console.print(table)
    difference = (results['fast'][0] - results['unfolded'][0]).abs().max()
    console.print(f'largest difference of a gradient: {difference:.1e}')
    pairs = {name: count for name, (_, count) in results.items()}
    return dict(seconds=rounds, extra_mib=memory, pairs=pairs, difference=float(difference))


GROWTH: dict[str, list[dict[str, Any]]] = {
    'instances': [dict(instances=count) for count in (1, 2, 4, 8, 16, 32, 64)],
    'frames': [dict(frames=count) for count in (1, 3, 5, 7, 9)],
    # the last two are halved before they are compared
    'size': [
        dict(size=size) for size in ((96, 160), (192, 320), (288, 480), (384, 640), (576, 960))
    ],
}


def grow(args: argparse.Namespace, what: str, console: Console) -> list[dict[str, Any]]:
    """Times the fast implementation for growing clips in turn."""
    clips = []
    for change in GROWTH[what]:
        changed = argparse.Namespace(**{**vars(args), **change})
        clips.append(Inputs.create(changed, changed.instances))
    rounds: list[list[float]] = [[] for _ in clips]
    counts = [run_fast(clip, args.neighbors)[1] for clip in clips]  # warms up as well
    for _ in range(args.rounds):
        for clip, times in zip(clips, rounds):
            start = measuring.now(args.device)
            run_fast(clip, args.neighbors)
            times.append(measuring.now(args.device) - start)
    table = Table(what, 'pairs', 'seconds', 'times the first', title=setting(args))
    base = statistics.median(rounds[0])
    for change, count, times in zip(GROWTH[what], counts, rounds):
        median = statistics.median(times)
        label = ' x '.join(str(x) for x in np.ravel(change[what]))
        table.add_row(label, f'{count}', f'{median:.4f}', f'{median / base:.1f}')
    console.print(table)
    return [
        dict(change, pairs=count, seconds=times)
        for change, count, times in zip(GROWTH[what], counts, rounds)
    ]


def setting(args: argparse.Namespace) -> str:
    """What a table was measured with."""
    return (
        f'{args.instances} instances, {args.frames} x {args.size[0]} x {args.size[1]}, '
        f'{args.channels} channels, {args.neighbors} neighbours, {args.layers} layers, '
        f'colour noise {args.color_noise:g}, contrast {args.contrast:g}, '
        f'{measuring.describe(args.device)}, median of {args.rounds}'
    )


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description='Benchmark the STPA loss')
    parser.add_argument('--size', type=int, nargs=2, default=(288, 480), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=3)
    parser.add_argument('--instances', type=int, default=8)
    parser.add_argument('--channels', type=int, default=256)
    parser.add_argument('--neighbors', type=int, default=7, choices=(2, 4, 5, 7, 9))
    parser.add_argument('--layers', type=int, default=10, help='decoder layers with a loss')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument(
        '--color-noise',
        type=float,
        default=1.0,
        help='deviation of the colours in Lab units; the less, the more pairs are looked at',
    )
    parser.add_argument('--contrast', type=float, default=15.0, help='of the colours')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--no-memory', action='store_true', help='do not measure memory')
    parser.add_argument(
        '--grow', nargs='+', choices=sorted(GROWTH), help='only time the fast one, for such clips'
    )
    measuring.add_arguments(parser)
    parser.add_argument('--memory-of', choices=sorted(RUNS), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Entry point."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    measuring.prepare(args.device)
    if args.memory_of:
        print_own_peak(args)
        return
    if not args.grow:
        measuring.slow_twin('stpa_unfolded')  # told now rather than after the fast one
    console = Console(width=110)
    figures: dict[str, Any] = {what: grow(args, what, console) for what in args.grow or []}
    if not args.grow:
        figures = compare(args, console)
    measuring.write_json(args, figures)


if __name__ == '__main__':
    main()
