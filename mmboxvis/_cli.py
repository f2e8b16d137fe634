"""What ``tools/train.py`` and ``tools/test.py`` share: arguments, config, launcher, precision."""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import barrier, is_distributed
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmboxvis.datasets.video_frames import FrameError
from mmboxvis.datasets.video_json import AnnotationError
from mmboxvis.engine import NonFiniteError, NumClassesError, NumClassesHook
from mmboxvis.engine.checkpoint_files import CheckpointError, local_checkpoint
from mmboxvis.files import OutsideError, whole_file
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
        UsageError: If there is no such config, it cannot be read, it does not define a model, or
            an option names a setting that there is not.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    if 'model' not in cfg:
        raise UsageError(f'{args.config} defines no model; is it a file of _base_?')
    cfg.launcher = args.launcher
    cfg.setdefault('default_scope', 'mmboxvis')
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    return cfg


def read_config(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file.

    Args:
        path: Of the file.
        options: Changes to it, as ``--cfg-options`` gives them.

    Raises:
        UsageError: If there is none, or it is no config; the message says where. If an option
            names a setting that there is not.
    """
    if not Path(path).is_file():
        raise UsageError(f'there is no config {path}')
    cfg = _parsed(path)
    if options:
        check_options(cfg, options, str(path))
        try:
            cfg.merge_from_dict(dict(options))
        except Exception as error:  # mmengine raises what it comes upon
            raise UsageError(f'--cfg-options: {_one_line(error)}') from error
    return cfg


def _parsed(path: str | os.PathLike[str]) -> Config:
    try:
        return Config.fromfile(path)
    except SyntaxError as error:
        where, text = f'{path}, line {error.lineno}', (error.text or '').strip()
        raise UsageError(f'{where}: {error.msg}: {text}') from error
    except Exception as error:  # a config is a program, so anything may go wrong in it
        raise UsageError(f'the config {path} cannot be read: {_one_line(error)}') from error


SETTINGS = {
    *inspect.signature(Runner.__init__).parameters,
    *('auto_scale_lr', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg'),
    *('num_threads', 'runner_type', 'strategy'),
    # read by mmengine's runner, and by tools of ours
    *('activation_checkpointing', 'compile', 'efficient_conv_bn_eval', 'more_tests'),
}
"""Settings that mean something though a config may not have them."""


def check_options(cfg: Config, options: Mapping[str, Any], name: str) -> None:
    """Find slips of the pen in ``--cfg-options``, which mmengine takes for new settings.

    A setting that is unlike all others inside one that exists is only warned of, as it may be an
    argument that the config leaves at its default. So is one that helps to write the config and
    that nothing of ours reads afterwards.

    Raises:
        UsageError: If an option begins with the name of no setting.
    """
    for key in options:
        helper = key.split('.')[0]
        if helper in cfg and helper not in SETTINGS:
            warnings.warn(
                f'--cfg-options {key}={options[key]}: {name} has used {helper!r} already, and '
                'nothing reads it any more; set what it was used for, such as '
                'train_dataloader.dataset.data_root',
                stacklevel=2,
            )
        node: Any = cfg
        for depth, part in enumerate(key.split('.')):
            if not isinstance(node, Mapping | Config):
                break
            if part in node:
                node = node[part]
                continue
            known = {*node, *(SETTINGS if depth == 0 else ())}
            close = difflib.get_close_matches(part, map(str, known), 1, 0.6 if depth == 0 else 0.8)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            if depth == 0 and part not in known:
                raise UsageError(f'--cfg-options {key}: {name} has no setting {part!r}{hint}')
            if depth and close:
                warnings.warn(f'--cfg-options {key}: new setting {part!r}{hint}', stacklevel=2)
            break


def require_checkpoint(path: str) -> None:
    """Check that a checkpoint is there; one with a scheme (``https://``) is fetched later.

    Raises:
        UsageError: If it is a local path and no file.
    """
    if '://' not in path and not Path(path).is_file():
        raise UsageError(f'there is no checkpoint {path}')


def require_fit(model: Any, path: str) -> None:
    """Check that a checkpoint is of this model, where mmengine would load what happens to fit.

    Raises:
        UsageError: If it cannot be read without running code from it, a tensor of the student
            is missing or has another shape, or it was trained with another position code.
    """
    # takes libraries that training does not need
    from mmboxvis.apis.official import read_network, require_position_code

    model = model.module if is_model_wrapper(model) else model
    try:
        with local_checkpoint(path) as local:
            state, meta = read_network(local)
        require_position_code(model, meta, path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    own = model.state_dict()
    wrong = [
        f'{name} {tuple(tensor.shape)}'
        for name, tensor in own.items()
        if name.startswith('student.')
        and not name.endswith('num_batches_tracked')
        and getattr(state.get(name), 'shape', None) != tensor.shape
    ]
    if wrong:
        raise UsageError(
            f'{path} does not fit the config: {len(wrong)} of {len(own)} tensors are missing or '
            f'have another shape, such as {", ".join(wrong[:3])}; is it of another model?'
        )


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config describes, in its processes if there are several.

    A config that names none gets a ``ResumableRunner``: mmengine's own would run code that hides
    in the file of ``load_from``. Every runner compares the classes of data and model.
    """
    join_cpu_processes(cfg)
    if 'runner_type' not in cfg:
        cfg = cfg.copy()
        cfg.runner_type = 'ResumableRunner'
    runner = RUNNERS.build(cfg)
    if not any(isinstance(hook, NumClassesHook) for hook in runner.hooks):
        runner.register_hook(NumClassesHook())
    return runner


def leave_processes() -> None:
    """Ends a group of processes once all have come to the end.

    Left to the exit of the interpreter, threads of gloo now and then abort a run that was good.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        barrier()
        torch.distributed.destroy_process_group()


def schedule_options(cfg: Config, max_iters: int) -> dict[str, Any]:
    """Return the changes, as dotted keys, that stretch a schedule over another number of steps.

    Warm-up, decay and milestones keep their share of the training. Nothing is validated on the
    way; mmengine does so after the last step whatever the interval, unless it begins later. The
    log has one line at least.

    Args:
        cfg: Config with an iteration-based training loop.
        max_iters: The number of steps wanted.
    """
    old = cfg.train_cfg.max_iters
    options = {
        'train_cfg.max_iters': max_iters,
        'train_cfg.val_interval': max_iters + 1,
        'train_cfg.val_begin': max_iters + 1,
    }
    logger = cfg.get('default_hooks', {}).get('logger', {})
    if 'interval' in logger:  # a run shorter than that would have no line in its log
        options['default_hooks.logger.interval'] = min(logger['interval'], max_iters)
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


# ------------------------------------------------------------------ what goes wrong

INPUT_ERRORS = (
    AnnotationError,
    CheckpointError,
    FrameError,
    NonFiniteError,
    NumClassesError,
    OutsideError,
)
"""What is raised because of a file, and says all there is to say."""


@contextmanager
def one_line_errors(tool: str) -> Iterator[None]:
    """End the program with one line where config, data or checkpoint are at fault.

    What goes wrong while something is built from the config is laid to the config. Other errors
    pass, as does everything with ``MMBOXVIS_TRACEBACK=1`` in the environment.
    """
    try:
        yield
    except UsageError as error:
        sys.exit(f'{tool}: error: {error}')
    except Exception as error:
        is_input = isinstance(error, INPUT_ERRORS)
        if not (is_input or _while_building(error)) or os.environ.get('MMBOXVIS_TRACEBACK'):
            raise
        told = _one_line(error, with_kind=not is_input)
        where = '' if is_input else ' (MMBOXVIS_TRACEBACK=1 shows where)'
        sys.exit(f'{tool}: error: {told}{where}')


def _while_building(error: BaseException) -> bool:
    """Whether it was raised below the registry's function that builds things from configs."""
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename.endswith('build_functions.py'):
            return True
        step = step.tb_next
    return False


def _one_line(error: BaseException, *, with_kind: bool = True) -> str:
    """The message of an error, that of a worker process without its traceback."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and 'in DataLoader worker process' in lines[0]:
        return lines[-1].partition('Error: ')[2] or lines[-1]
    told = ' '.join(lines)
    return f'{type(error).__name__}: {told}' if with_kind or not told else told


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


_PLAIN_WRAPPERS = {
    'OptimWrapper',
    'AmpOptimWrapper',
    'AutocastOptimWrapper',
    'FiniteOptimWrapper',
    'FiniteAmpOptimWrapper',
}


def enable_amp(cfg: Config) -> None:
    """Switch training to mixed precision, in the form that the device at hand supports.

    Raises:
        UsageError: If mmengine knows no mixed precision for the device, or the config makes its
            steps in another way.
    """
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    wrapper = (kind if isinstance(kind, str) else kind.__name__).rpartition('.')[2]
    if 'strategy' in cfg or wrapper not in _PLAIN_WRAPPERS:
        raise UsageError(
            f'--amp goes with one of {sorted(_PLAIN_WRAPPERS)} and no strategy; the config has '
            f'{wrapper} and {"a" if "strategy" in cfg else "no"} strategy: set the precision there '
            '(FSDP: strategy.model_wrapper.mixed_precision, DeepSpeed: strategy.bf16)'
        )
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
