"""Compares a training step with the straightforward composition of the same step.

Both sides start from the same weights and see the same random clip; rounds of both alternate. A
step is student, teacher, losses, backward and optimiser. Peak memory is that of two steps beyond
the built model, for the optimiser's state appears in the first: on the CPU of a process of its own
for each side, on a GPU (``--device cuda``) what torch's allocator hands out. On a machine with
other work, look at the seconds of CPU. Examples::

    python tools/analysis_tools/benchmark_step.py configs/boxvis/boxvis_r50_8xb2-15k_ytvis21.py
    python tools/analysis_tools/benchmark_step.py CONFIG --device cuda --sides mmboxvis --with-cp

``--amp`` and ``--with-cp`` change mmboxvis' side alone.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.registry import MODELS
from tools.analysis_tools import measuring
from tools.analysis_tools.profile_step import random_clip

SIDES = ('mmboxvis', 'straightforward')
Step = Callable[[], float]


def make_step(side: str, args: argparse.Namespace) -> Step:
    """Builds one side; the function returned runs a step and returns its loss."""
    torch.manual_seed(0)
    with one_line_errors('benchmark_step.py'):
        cfg = read_config(args.config)
    if args.with_cp:
        cfg.model.network.backbone.with_cp = True
    init_default_scope('mmboxvis')
    MMLogger.get_current_instance().setLevel('ERROR')  # a line for every parameter otherwise
    model = MODELS.build(cfg.model).to(args.device).train()
    num_classes = cfg.model.network.track_head.num_classes
    clip = random_clip(args.frames, tuple(args.size), args.objects, num_classes, False)
    batch = model.data_preprocessor(clip, True)
    if side == 'mmboxvis':
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
        losses = partial(model, **batch, mode='loss')
        return partial(run, losses, optimizer, model.update_teacher, *mixed_precision(args))
    twin = measuring.slow_twin('training_step')
    plain = twin.PlainStep(model, cfg.model, args.frames)
    optimizer = torch.optim.AdamW(plain.student.parameters(), lr=1e-4, weight_decay=0.05)
    return partial(run, partial(plain.losses, batch), optimizer, plain.update_teacher)


def mixed_precision(args: argparse.Namespace) -> tuple[torch.dtype | None, Any]:
    """The type that autocast computes in, and the scaler of the loss, as the optim wrappers do."""
    if args.amp is None:
        return None, None
    dtype = getattr(torch, args.amp)
    return dtype, torch.amp.GradScaler(args.device) if dtype == torch.float16 else None


def run(
    losses: Callable[[], dict[str, Any]],
    optimizer: Any,
    update_teacher: Callable[[float], None],
    dtype: torch.dtype | None = None,
    scaler: Any = None,
) -> float:
    """One step."""
    device = optimizer.param_groups[0]['params'][0].device
    with torch.autocast(device.type, dtype, enabled=dtype is not None):
        parts = losses()
    total = torch.stack([value.float() for name, value in parts.items() if 'loss' in name]).sum()
    if scaler is None:
        total.backward()
        optimizer.step()
    else:
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
    optimizer.zero_grad()
    update_teacher(0.001)
    return total.item()


def two_steps(step: Step) -> None:
    """The optimiser's state appears in the first."""
    step()
    step()


def peak_memory(side: str, args: argparse.Namespace) -> tuple[float, float]:
    """MiB that steps take beyond the built model, and those of the model."""
    if torch.device(args.device).type == 'cuda':
        gc.collect()
        torch.cuda.empty_cache()
        step = make_step(side, args)
        return measuring.extra_peak(lambda: two_steps(step), args.device)
    command = [sys.executable, __file__, *sys.argv[1:], '--memory-of', side]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    extra, before = done.stdout.split()[-2:]
    return float(extra), float(before)


def time_rounds(args: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    """Seconds and seconds of CPU of each side's rounds, turn about after one to warm up."""
    rounds: dict[str, list[tuple[float, float]]] = {side: [] for side in args.sides}
    if not args.rounds:
        return rounds
    steps = {side: make_step(side, args) for side in args.sides}
    for index in range(args.rounds + 1):
        for side, step in steps.items():
            start = measuring.now(args.device), time.process_time()
            loss = step()
            took = measuring.now(args.device) - start[0], time.process_time() - start[1]
            print(
                f'round {index}: {side} {took[0]:.3f} s, {took[1]:.2f} of CPU, loss {loss:.3f}',
                file=sys.stderr,
            )
            if index:  # the first round warms up
                rounds[side].append(took)
    return rounds


def to_table(
    rounds: dict[str, list[tuple[float, float]]],
    memory: dict[str, tuple[float, float]],
    args: argparse.Namespace,
) -> Table:
    """Medians, memory, and the share that ours takes."""
    nothing = (float('nan'), float('nan'))
    seconds = {
        side: tuple(map(statistics.median, zip(*times))) or nothing
        for side, times in rounds.items()
    }
    options = f'{", " + args.amp if args.amp else ""}{", with_cp" if args.with_cp else ""}'
    table = Table(
        title=f'{Path(args.config).name}, {args.objects} objects, {args.frames} x {args.size[0]} x '
        f'{args.size[1]}{options}, {measuring.describe(args.device)}, median of {args.rounds}'
    )
    for heading in ('', 'seconds', 'of CPU', 'MiB before', 'MiB of the step at its peak'):
        table.add_column(heading, justify='right')
    for side in args.sides:
        (wall, cpu), (extra, before) = seconds[side], memory.get(side, nothing)
        table.add_row(side, f'{wall:.3f}', f'{cpu:.2f}', f'{before:.0f}', f'{extra:.0f}')
    if len(args.sides) > 1:
        ours, plain = SIDES
        shares = [seconds[ours][i] / seconds[plain][i] for i in range(2)]
        share = memory.get(ours, nothing)[0] / memory.get(plain, nothing)[0]
        table.add_row('share', *(f'{x:.2f}' for x in shares), '', f'{share:.2f}')
    return table


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('config')
    parser.add_argument('--size', type=int, nargs=2, default=(384, 640), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=3)
    parser.add_argument('--objects', type=int, default=8)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--sides', nargs='+', choices=SIDES, default=SIDES)
    parser.add_argument('--with-cp', action='store_true', help="checkpoint mmboxvis' backbone")
    parser.add_argument('--amp', choices=('float16', 'bfloat16'), help="mmboxvis' precision")
    parser.add_argument('--no-memory', action='store_true', help='do not measure memory')
    measuring.add_arguments(parser)
    parser.add_argument('--memory-of', choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Entry point."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    measuring.prepare(args.device)
    if 'straightforward' in args.sides:
        measuring.slow_twin('training_step')  # told now rather than after a side was timed
    if args.memory_of:
        step = make_step(args.memory_of, args)
        print(*measuring.extra_peak(lambda: two_steps(step), args.device))
        return
    rounds = time_rounds(args)
    memory = {} if args.no_memory else {side: peak_memory(side, args) for side in args.sides}
    Console(width=110).print(to_table(rounds, memory, args))
    figures = dict(
        seconds_and_of_cpu=rounds,
        extra_mib_and_before=memory,
    )
    measuring.write_json(args, figures)


if __name__ == '__main__':
    main()
