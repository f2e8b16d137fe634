"""Compares the pixel decoder's deformable attention with mmcv's on the CPU.

    python tools/analysis_tools/benchmark_attention.py [CONFIG] [--size 384 640] [--frames 1 3]
        [--rounds 5] [--compile]

Two pixel decoders of the config with the same weights, one with mmcv's attention and one with ours,
read the same random maps, forward without gradient and forward and backward with it, turn about;
medians over the rounds are shown. *attention* is one attention layer alone, in the same way. The
ratios are medians of the rounds' own. Peak memory beyond the inputs is that of a process of its own
for each. --compile adds ours through torch.compile.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from measuring import extra_peak
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import mmboxvis.models.layers  # noqa: F401  registers ours
from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
KINDS = {'mmcv': 'MultiScaleDeformableAttention', 'ours': 'FusedDeformableAttention'}


def build_decoders(config: str, kinds: Sequence[str]) -> dict[str, nn.Module]:
    """Pixel decoders of a config with equal weights, by kind of attention."""
    with one_line_errors('benchmark_attention.py'):
        head = read_config(config).model.network.track_head
    decoders: dict[str, nn.Module] = {}
    for kind in kinds:
        torch.manual_seed(0)
        cfg = head.pixel_decoder.to_dict()
        cfg['encoder']['layer_cfg']['self_attn_cfg']['type'] = KINDS[kind]
        cfg.update(
            in_channels=list(head.in_channels),
            feat_channels=head.feat_channels,
            out_channels=head.out_channels,
        )
        decoders[kind] = MODELS.build(cfg)
        decoders[kind].init_weights()
    first = next(iter(decoders.values()))
    for name, parameter in first.named_parameters():
        # as initialised, all samples of a query are alike and lie on a few rays
        if 'sampling_offsets.weight' in name or 'attention_weights.weight' in name:
            nn.init.normal_(parameter, std=0.1)
    for decoder in decoders.values():
        decoder.load_state_dict(first.state_dict())
    return decoders


def random_maps(decoder: Any, size: tuple[int, int], num_frames: int) -> list[Tensor]:
    """Backbone maps at strides 4, 8, 16 and 32."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(
            num_frames,
            conv.conv.in_channels,
            size[0] // stride,
            size[1] // stride,
            generator=generator,
        )
        for conv, stride in zip(
            [*decoder.lateral_convs, *list(decoder.input_convs)[::-1]], (4, 8, 16, 32)
        )
    ]


def attention_work(decoder: Any, size: tuple[int, int], num_frames: int) -> Callable[[], Tensor]:
    """One attention layer on random tokens."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(size[0] // stride, size[1] // stride) for stride in (32, 16, 8)]
    sizes = [h * w for h, w in shapes]
    layer = decoder.encoder.layers[0].self_attn
    query = torch.randn(num_frames, sum(sizes), layer.embed_dims, generator=generator)
    maps = [torch.empty(1, 1, *shape) for shape in shapes]
    references = torch.cat([decoder._reference_points(level) for level in maps])
    references = references[None, :, None].expand(num_frames, -1, len(shapes), -1)
    starts = torch.tensor([0, *sizes[:-1]]).cumsum(0)

    def work() -> Tensor:
        return layer(
            query,
            reference_points=references,
            spatial_shapes=torch.tensor(shapes),
            level_start_index=starts,
        )

    return work


def decoder_work(decoder: Any, size: tuple[int, int], num_frames: int) -> Callable[[], Tensor]:
    """All of a pixel decoder on random maps."""
    maps = random_maps(decoder, size, num_frames)
    return lambda: decoder(maps).mask_embeds


WORK = {'attention': attention_work, 'pixel decoder': decoder_work}


def run(work: Callable[[], Tensor], with_gradient: bool) -> Tensor:
    """Runs forward, and backward where a gradient is wanted; returns the result."""
    with torch.set_grad_enabled(with_gradient):
        out = work()
    if with_gradient:
        out.square().mean().backward()
    return out.detach()


def measure(
    work: dict[str, Callable[[], Tensor]], with_gradient: bool, rounds: int
) -> tuple[dict[str, list[float]], float]:
    """Seconds of each round by kind, turn about after one to warm up; largest relative difference.

    The difference is that of the results, relative to the largest magnitude of the first kind's.
    """
    results = {kind: run(task, with_gradient) for kind, task in work.items()}
    first = next(iter(results.values()))
    difference = max(
        float((out - first).abs().max() / first.abs().max()) for out in results.values()
    )
    seconds: dict[str, list[float]] = {kind: [] for kind in work}
    for number in range(rounds):
        for kind in list(work)[:: 1 if number % 2 else -1]:
            began = time.perf_counter()
            run(work[kind], with_gradient)
            seconds[kind].append(time.perf_counter() - began)
    return seconds, difference


def peak_memory(kind: str, part: str, num_frames: int, gradient: bool, argv: list[str]) -> float:
    """MiB that a run takes beyond weights and inputs, in a fresh process."""
    of = [kind, part, str(num_frames), str(int(gradient))]
    command = [sys.executable, __file__, *argv, '--memory-of', *of]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.split()[-1])


def print_own_peak(args: argparse.Namespace) -> None:
    """Runs once and prints by how many MiB the peak of this process rose."""
    kind, part, num_frames, gradient = args.memory_of
    decoder = build_decoders(args.config, [kind])[kind]
    run(WORK[part](decoder, (32, 32), 1), bool(int(gradient)))  # loads what is loaded lazily
    work = WORK[part](decoder, tuple(args.size), int(num_frames))
    print(extra_peak(lambda: run(work, bool(int(gradient))), 'cpu')[0])


def compare(args: argparse.Namespace, argv: list[str]) -> Table:
    """Times everything that the command line asks for."""
    table = Table(
        title=f'{args.config}: {args.size[0]}x{args.size[1]}, {torch.get_num_threads()} threads, '
        f'median of {args.rounds}'
    )
    for heading in ('part', 'frames', 'pass', 'attention'):
        table.add_column(heading)
    for heading in ('seconds', 'times faster', 'peak extra MiB', 'difference'):
        table.add_column(heading, justify='right')
    decoders = build_decoders(args.config, list(KINDS))
    for part in args.parts:
        for num_frames in args.frames:
            work = {
                kind: WORK[part](decoder, tuple(args.size), num_frames)
                for kind, decoder in decoders.items()
            }
            if args.compile:
                work['ours, compiled'] = torch.compile(work['ours'])
            for gradient in (False, True):
                seconds, difference = measure(work, gradient, args.rounds)
                for kind, times in seconds.items():
                    faster = statistics.median(a / b for a, b in zip(seconds['mmcv'], times))
                    memory = ''
                    if args.memory and kind in KINDS:
                        memory = f'{peak_memory(kind, part, num_frames, gradient, argv):.0f}'
                    table.add_row(
                        part,
                        str(num_frames),
                        'forward, backward' if gradient else 'forward',
                        kind,
                        f'{statistics.median(times):.3f}',
                        f'{faster:.2f}',
                        memory,
                        f'{difference:.0e}',
                    )
    return table


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = ROOT / 'configs/boxvis/boxvis_r50_8xb2-15k_ytvis21.py'
    parser.add_argument('config', nargs='?', default=str(default.relative_to(ROOT)))
    parser.add_argument('--size', type=int, nargs=2, default=(384, 640), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, nargs='+', default=(1, 3))
    parser.add_argument('--parts', nargs='+', choices=sorted(WORK), default=sorted(WORK))
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--compile', action='store_true', help='also through torch.compile')
    parser.add_argument('--memory', action='store_true', help='measure peak memory (Linux)')
    parser.add_argument('--memory-of', nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if min(args.rounds, *args.frames) < 1:
        parser.error('--rounds and --frames must be positive')
    if args.size[0] % 32 or args.size[1] % 32 or min(args.size) < 32:
        parser.error('--size must be multiples of 32')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Builds, runs and prints."""
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parse_args(argv)
    if args.memory_of:
        print_own_peak(args)
    else:
        Console(width=110).print(compare(args, argv))
    return 0


if __name__ == '__main__':
    sys.exit(main())
