"""What ``tools/train.py`` and ``tools/test.py`` share: arguments, config, launcher, precision."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.runner import Runner

from mmboxvis.files import whole_file
from mmboxvis.registry import RUNNERS

AMP_DEVICES = ('cuda', 'npu', 'mlu', 'musa')
"""Devices that mmengine's ``AmpOptimWrapper`` knows."""


class UsageError(Exception):
    """The command line asks for something that cannot be; the message is one line."""


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that mmdet's tools for training and testing have in common."""
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--work-dir', help="folder for logs and results; default: the config's, or work_dirs/NAME"
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change settings of the config: a.b=1 a.0.c=x a="[1,2]" (no spaces inside a value)',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='what started this process, where several train or test together',
    )
    # torch.distributed.launch passes the one or the other spelling, depending on its version.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Load the config that the command line names, with the command line's changes.

    The work folder is the command line's, else the config's, else ``work_dirs/<config name>``.

    Args:
        args: With the fields of :func:`add_common_arguments`.

    Raises:
        UsageError: If there is no such config, or it does not define a model.
    """
    if not Path(args.config).is_file():
        raise UsageError(f'there is no config {args.config}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if 'model' not in cfg:
        raise UsageError(f'{args.config} defines no model; is it a file of _base_?')
    cfg.launcher = args.launcher
    cfg.setdefault('default_scope', 'mmboxvis')
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def require_checkpoint(path: str) -> None:
    """Check that a checkpoint is there; one with a scheme (``https://``) is left to mmengine.

    Raises:
        UsageError: If it is a local path and no file.
    """
    if '://' not in path and not Path(path).is_file():
        raise UsageError(f'there is no checkpoint {path}')


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config describes, in its processes if there are several."""
    join_cpu_processes(cfg)
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def schedule_options(cfg: Config, max_iters: int) -> dict[str, Any]:
    """Return the changes, as dotted keys, that stretch a schedule over another number of steps.

    Warm-up, decay and milestones keep their share of the training.

    Args:
        cfg: Config with an iteration-based training loop.
        max_iters: The number of steps wanted.
    """
    old = cfg.train_cfg.max_iters
    options = {'train_cfg.max_iters': max_iters, 'train_cfg.val_interval': max_iters + 1}
    for index, scheduler in enumerate(cfg.get('param_scheduler') or []):
        begin = scheduler.get('begin', 0) * max_iters // old
        scaled: dict[str, Any] = {'begin': begin}
        if 'end' in scheduler:
            scaled['end'] = max(begin + 1, scheduler['end'] * max_iters // old)
        if 'T_max' in scheduler:
            scaled['T_max'] = max(1, scheduler['T_max'] * max_iters // old)
        if 'milestones' in scheduler:
            scaled['milestones'] = [step * max_iters // old for step in scheduler['milestones']]
        options |= {f'param_scheduler.{index}.{key}': value for key, value in scaled.items()}
    return options


# ------------------------------------------------------------------ several processes


def join_cpu_processes(cfg: Config) -> None:
    """Let ``--launcher pytorch`` work without a GPU; elsewhere mmengine does it all.

    mmengine's launchers select a CUDA device whatever the backend, and it hands a device number
    to DDP, which refuses one for a model on the CPU. So the group is joined here, over gloo, and
    DDP is told to take no device.

    Raises:
        UsageError: For another launcher than pytorch on a machine without a GPU.
    """
    if cfg.launcher == 'none' or get_device() != 'cpu':
        return
    if cfg.launcher != 'pytorch':
        raise UsageError(
            f'--launcher {cfg.launcher} needs a GPU; on CPUs start with tools/dist_train.sh'
        )
    dist_cfg = dict(cfg.get('env_cfg', {}).get('dist_cfg', {}))
    if not is_distributed():
        backend = dist_cfg.get('backend', 'nccl')
        seconds = dist_cfg.get('timeout')
        torch.distributed.init_process_group(
            backend='gloo' if backend == 'nccl' else backend,
            timeout=None if seconds is None else timedelta(seconds=seconds),
        )
    wrapper = dict(cfg.get('model_wrapper_cfg') or {})
    wrapper.setdefault('type', 'MMDistributedDataParallel')
    wrapper.setdefault('broadcast_buffers', False)
    wrapper.setdefault('find_unused_parameters', cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = {**wrapper, 'device_ids': None}


# ------------------------------------------------------------------ mixed precision


def enable_amp(cfg: Config) -> None:
    """Switch training to mixed precision, in the form that the device at hand supports.

    Raises:
        UsageError: If mmengine knows no mixed precision for the device.
    """
    device = get_device()
    if device in AMP_DEVICES:
        cfg.optim_wrapper.type = 'FiniteAmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    elif device == 'cpu':
        cfg.optim_wrapper.type = 'AutocastOptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            cfg.optim_wrapper.pop(key, None)
    else:
        raise UsageError(f'--amp does not work on {device}')


# ------------------------------------------------------------------ files


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write a json file whole or not at all, making its folder if needed."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(dict(content), indent=2) + '\n', encoding='utf-8')
