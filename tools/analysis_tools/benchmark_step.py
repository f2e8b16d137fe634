"""Compares a training step with the straightforward composition of the same step.

Both sides start from the same weights and see the same random clip; rounds of both alternate. A
step is student, teacher, losses, backward and optimiser. Peak memory beyond the loaded model is
measured in a process of its own for each side. On a machine with other work, look at the seconds
of CPU. Example::

    python tools/analysis_tools/benchmark_step.py configs/boxvis/boxvis_r50_8xb2-15k_ytvis21.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmboxvis.registry import MODELS
from tests.reference.training_step import PlainStep
from tools.analysis_tools.benchmark_stpa import status_field
from tools.analysis_tools.profile_step import random_clip

SIDES = ('mmboxvis', 'straightforward')


def make_step(side: str, args: argparse.Namespace) -> Callable[[], float]:
    """Builds one side; the function returned runs a step and returns its loss."""
    torch.manual_seed(0)
    cfg = Config.fromfile(args.config)
    if args.with_cp:
        cfg.model.network.backbone.with_cp = True
    init_default_scope('mmboxvis')
    MMLogger.get_current_instance().setLevel('ERROR')  # a line for every parameter otherwise
    model = MODELS.build(cfg.model).train()
    num_classes = cfg.model.network.track_head.num_classes
    clip = random_clip(args.frames, tuple(args.size), args.objects, num_classes, False)
    batch = model.data_preprocessor(clip, True)
    if side == 'mmboxvis':
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        return partial(run, partial(model, **batch, mode='loss'), optimizer, model.update_teacher)
    plain = PlainStep(model, cfg.model, args.frames)
    optimizer = torch.optim.AdamW(plain.student.parameters(), lr=1e-4, weight_decay=0.05)
    return partial(run, partial(plain.losses, batch), optimizer, plain.update_teacher)


def run(
    losses: Callable[[], dict[str, Any]], optimizer: Any, update_teacher: Callable[[float], None]
) -> float:
    """One step."""
    total = torch.stack([value for name, value in losses().items() if 'loss' in name]).sum()
    total.backward()
    optimizer.step()
    optimizer.zero_grad()
    update_teacher(0.001)
    return total.item()


def print_own_peak(args: argparse.Namespace) -> None:
    """Runs two steps, for the optimiser's state appears in the first, and prints MiB."""
    step = make_step(args.memory_of, args)
    # "5" makes the kernel forget the peak of building the model
    Path('/proc/self/clear_refs').write_text('5')
    before = status_field('VmRSS')
    step()
    step()
    print((status_field('VmHWM') - before) / 1024, before / 1024)


def peak_memory(side: str, argv: list[str]) -> tuple[float, float]:
    """MiB that steps take beyond the built model, and those of the model, in a fresh process."""
    command = [sys.executable, __file__, *argv, '--memory-of', side]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    extra, before = done.stdout.split()[-2:]
    return float(extra), float(before)


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--size', type=int, nargs=2, default=(384, 640), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=3)
    parser.add_argument('--objects', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--with-cp', action='store_true', help="checkpoint mmboxvis' backbone")
    parser.add_argument('--no-memory', action='store_true', help='do not measure memory')
    parser.add_argument('--memory-of', choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Entry point."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print_own_peak(args)
        return
    rounds: dict[str, list[tuple[float, float]]] = {side: [] for side in SIDES}
    if args.rounds:
        steps = {side: make_step(side, args) for side in SIDES}
        for index in range(args.rounds + 1):
            for side, step in steps.items():
                start = time.perf_counter(), time.process_time()
                step()
                took = time.perf_counter() - start[0], time.process_time() - start[1]
                print(
                    f'round {index}: {side} {took[0]:.2f} s, {took[1]:.2f} of CPU', file=sys.stderr
                )
                if index:  # the first round warms up
                    rounds[side].append(took)
        del steps, step
    nothing = (float('nan'), float('nan'))
    memory = {s: nothing if args.no_memory else peak_memory(s, sys.argv[1:]) for s in SIDES}
    seconds = {
        side: tuple(map(statistics.median, zip(*times))) or nothing
        for side, times in rounds.items()
    }
    table = Table(
        title=f'{Path(args.config).name}, {args.objects} objects, {args.frames} x {args.size[0]} x '
        f'{args.size[1]}, {args.threads} threads, median of {args.rounds}'
    )
    for heading in ('', 'seconds', 'of CPU', 'MiB before', 'MiB of the step at its peak'):
        table.add_column(heading, justify='right')
    for side in SIDES:
        (wall, cpu), (extra, before) = seconds[side], memory[side]
        table.add_row(side, f'{wall:.2f}', f'{cpu:.2f}', f'{before:.0f}', f'{extra:.0f}')
    ours, plain = SIDES
    shares = [seconds[ours][i] / seconds[plain][i] for i in range(2)]
    share = memory[ours][0] / memory[plain][0]
    table.add_row('share', *(f'{x:.2f}' for x in shares), '', f'{share:.2f}')
    Console(width=110).print(table)


if __name__ == '__main__':
    main()
