"""What the benchmarks share: clocks and peak memory of a CPU and of a GPU, figures as JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import mmcv
import mmcv.ops.multi_scale_deform_attn as mmcv_attention
import torch
from torch import Tensor

from mmboxvis.files import whole_file
from mmboxvis.models.layers.deformable_attention import HAS_GPU_KERNEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--device`` and ``--json``."""
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    parser.add_argument('--json', metavar='FILE', help='also write the figures to a file')


def prepare(device: torch.device | str) -> torch.device:
    """Readies a device, and mmcv for it.

    mmcv takes its kernel on every GPU, whether it was compiled with it or not; where it was not,
    its plain attention runs there too, on whichever side of a comparison.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        torch.cuda.init()
        if not HAS_GPU_KERNEL:
            mmcv_attention.IS_CUDA_AVAILABLE = False
            print('mmcv was compiled without its GPU kernels: attention by grid_sample')
    return device


def now(device: torch.device | str) -> float:
    """Seconds, when everything that was asked of the device is done."""
    device = torch.device(device)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def describe(device: torch.device | str) -> str:
    """The device in words, for the title of a table."""
    device = torch.device(device)
    if device.type == 'cuda':
        name = torch.cuda.get_device_name(device)
        tf32 = 'TF32' if torch.backends.cudnn.allow_tf32 else 'no TF32'
        return f'{name}, torch {torch.__version__}, {tf32} in convolutions'
    return f'CPU, {torch.get_num_threads()} threads'


def slow_twin(name: str) -> ModuleType:
    """A plain implementation out of ``tests/reference``.

    Raises:
        SystemExit: outside of a checkout, for the tests are not installed.
    """
    try:
        return importlib.import_module(f'tests.reference.{name}')
    except ModuleNotFoundError as error:
        if not (error.name or '').startswith('tests'):
            raise
        sys.exit(
            f'{Path(sys.argv[0]).name}: error: the implementation to compare with is '
            f'tests/reference/{name}.py, which is not installed: run this in a checkout of mmboxvis'
        )


def status_field(name: str) -> int:
    """KiB that the kernel (Linux) reports for this process."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f'{name}:')).split()[1])


def extra_peak(run: Callable[[], Any], device: torch.device | str) -> tuple[float, float]:
    """How far memory rises in a run.

    On a GPU this is what torch's allocator hands out, on the CPU what the process occupies: there
    only the first such measurement of a process is to be trusted.

    Returns:
        MiB at the peak beyond what was there before, and MiB before.
    """
    device = torch.device(device)
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 2**20
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) / 2**20 - before, before
    # "5" makes the kernel forget the peak so far; getrusage's cannot be reset and is even
    # inherited from the parent process
    Path('/proc/self/clear_refs').write_text('5')
    before = status_field('VmRSS') / 1024
    run()
    return status_field('VmHWM') / 1024 - before, before


def to_device(value: Any, device: torch.device) -> Any:
    """Tensors of nested lists, tuples and dicts on a device; the rest as it is."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(to_device(item, device) for item in value)
    return value


def write_json(args: argparse.Namespace, figures: Any) -> None:
    """Writes figures, what they were measured with and where, if the command line asks for it.

    Args:
        args: the command line, with what :func:`add_arguments` adds.
        figures: numbers, strings, and lists and dicts of such.
    """
    if args.json is None:
        return
    content = dict(
        device=describe(args.device),
        processor=platform.processor() or platform.machine(),
        torch=str(torch.__version__),
        mmcv=mmcv.__version__,
        settings=vars(args),
        figures=figures,
    )
    with whole_file(args.json) as file:
        file.write_text(json.dumps(content, indent=1, default=str) + '\n', encoding='utf-8')
