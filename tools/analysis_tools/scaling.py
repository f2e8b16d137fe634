"""What a config costs on N GPUs: ``python tools/analysis_tools/scaling.py CONFIG``.

Counts the bytes that a step exchanges and that student, teacher and optimiser take on a GPU, and
works out how much of N GPUs is left for computing. Sizes are read off the model; times are
calculated from the step time and the bandwidth given, with nothing measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.registry import MODELS

FLOAT = 4
MIB = 2**20
MOMENTS = 2
"""Of AdamW, each as large as the trained weights."""


@dataclass(frozen=True)
class Sizes:
    """Numbers of a model.

    Attributes:
        trained: trained parameters of the student.
        frozen: its frozen parameters and its buffers.
        teacher: parameters and buffers of the teacher, 0 without one.
    """

    trained: int
    frozen: int
    teacher: int

    @classmethod
    def of(cls, cfg: Config) -> Sizes:
        """Counts them; the model is built without memory where torch allows."""
        with DefaultScope.overwrite_default_scope('mmboxvis'), torch.random.fork_rng(devices=[]):
            model: Any = MODELS.build(cfg.model)
        trained = sum(p.numel() for p in model.student.parameters() if p.requires_grad)
        student = _numbers(model.student)
        teacher = getattr(model, 'teacher', None)
        return cls(trained, student - trained, 0 if teacher is None else _numbers(teacher))

    def exchanged(self) -> int:
        """Bytes of gradients that each GPU averages with the others in a step."""
        return FLOAT * self.trained

    def memory(self, num_gpus: int, strategy: str = 'ddp') -> dict[str, float]:
        """Bytes of each part on a GPU, without activations.

        Args:
            num_gpus: N, over which parts are dealt out.
            strategy: ``ddp``; ``zero2``, which deals out gradients and moments; ``fsdp``, which
                deals out everything.
        """
        weights = num_gpus if strategy == 'fsdp' else 1
        states = 1 if strategy == 'ddp' else num_gpus
        return dict(
            student=FLOAT * (self.trained + self.frozen) / weights,
            teacher=FLOAT * self.teacher / weights,
            gradient=FLOAT * self.trained / states,
            optimiser=FLOAT * MOMENTS * self.trained / states,
        )


def _numbers(network: torch.nn.Module) -> int:
    tensors = [*network.parameters(), *network.buffers()]
    return sum(tensor.numel() for tensor in tensors)


def ring_seconds(num_bytes: float, num_gpus: int, bandwidth: float) -> float:
    """Seconds of an all-reduce in a ring: each byte leaves a GPU 2 (N - 1) / N times.

    Args:
        num_bytes: what is averaged.
        num_gpus: N.
        bandwidth: bytes a second of the slowest link.
    """
    return 2 * (num_gpus - 1) / num_gpus * num_bytes / bandwidth


def efficiency(
    num_bytes: float, num_gpus: int, bandwidth: float, step: float, overlap: float = 0.0
) -> float:
    """Share of N GPUs that computes, in (0, 1].

    Args:
        num_bytes: averaged a step.
        num_gpus: N.
        bandwidth: bytes a second of the slowest link.
        step: seconds of a step on one GPU.
        overlap: seconds of it behind which the exchange can hide.
    """
    return step / (step + max(ring_seconds(num_bytes, num_gpus, bandwidth) - overlap, 0.0))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Bytes and expected efficiency on several GPUs')
    parser.add_argument('config')
    parser.add_argument('--gpus', type=int, nargs='+', default=[1, 2, 8, 16, 32, 64])
    parser.add_argument('--step', type=float, default=1.0, help='seconds a step on one GPU')
    parser.add_argument(
        '--node', type=float, default=100.0, help='GB a second between GPUs of a node (of 8)'
    )
    parser.add_argument('--network', type=float, default=10.0, help='GB a second between nodes')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    args = parse_args(argv)
    with one_line_errors('scaling.py'):
        sizes = Sizes.of(read_config(args.config))
    print(
        f'{sizes.trained / 1e6:.2f} M trained, {sizes.frozen / 1e6:.2f} M frozen and buffers, '
        f'{sizes.teacher / 1e6:.2f} M of the teacher; {sizes.exchanged() / MIB:.1f} MiB of '
        'gradients averaged a step\n'
    )
    print('MiB a GPU, without activations')
    print(
        f'{"GPUs":>4} {"strategy":8} ' + ' '.join(f'{x:>9}' for x in sizes.memory(1)) + '     sum'
    )
    for num_gpus in args.gpus:
        for strategy in ('ddp', 'zero2', 'fsdp') if num_gpus > 1 else ('ddp',):
            parts = [value / MIB for value in sizes.memory(num_gpus, strategy).values()]
            values = ' '.join(f'{value:9.1f}' for value in parts)
            print(f'{num_gpus:4} {strategy:8} {values} {sum(parts):7.1f}')
    print(
        f'\nEfficiency, calculated, {args.step} s a step: exchange not hidden / behind half a step'
    )
    for num_gpus in args.gpus:
        bandwidth = 1e9 * (args.node if num_gpus <= 8 else args.network)
        low, high = (
            efficiency(sizes.exchanged(), num_gpus, bandwidth, args.step, overlap)
            for overlap in (0.0, args.step / 2)
        )
        print(f'{num_gpus:4} {low:6.1%} {high:6.1%}')


if __name__ == '__main__':
    main()
