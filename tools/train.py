"""Train a model: ``python tools/train.py CONFIG [--work-dir DIR] [--resume [PATH]] ...``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mmengine.config import Config
from mmengine.runner import find_latest_checkpoint

from mmboxvis._cli import (
    UsageError,
    add_common_arguments,
    build_runner,
    enable_amp,
    leave_processes,
    load_config,
    one_line_errors,
    require_checkpoint,
    require_fit,
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, the same as that of mmdet's ``tools/train.py``."""
    parser = argparse.ArgumentParser(description='Train a model')
    add_common_arguments(parser)
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate with the batch size, from the config's base_batch_size",
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='PATH',
        help='go on from this checkpoint, or without PATH from the latest in the work folder',
    )
    return parser.parse_args(argv)


def merge_args(args: argparse.Namespace) -> Config:
    """Return the config that the command line asks for.

    Raises:
        UsageError: If a file is missing or the config lacks what an argument needs.
    """
    cfg = load_config(args)
    if args.amp:
        enable_amp(cfg)
    if args.auto_scale_lr:
        scale = cfg.get('auto_scale_lr') or {}
        if 'enable' not in scale or 'base_batch_size' not in scale:
            raise UsageError(
                f'--auto-scale-lr needs auto_scale_lr = dict(enable=False, base_batch_size=...) '
                f'in {args.config}'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume == 'auto':
        cfg.resume = True
        if cfg.get('runner_type', 'ResumableRunner') == 'ResumableRunner':
            cfg.start_from = cfg.get('load_from')  # where there is nothing to resume yet
            cfg.load_from = None
        elif find_latest_checkpoint(cfg.work_dir) is None:
            cfg.resume = False  # other runners would leave the weights of load_from out as well
        else:
            cfg.load_from = None
    elif args.resume is not None:
        require_checkpoint(args.resume)
        cfg.resume = True
        cfg.load_from = args.resume
    return cfg


def main(argv: Sequence[str] | None = None) -> None:
    """Train."""
    args = parse_args(argv)
    with one_line_errors('train.py'):
        runner = build_runner(merge_args(args))
        if args.resume not in (None, 'auto'):
            require_fit(runner.model, args.resume)
        runner.train()
    leave_processes()


if __name__ == '__main__':
    main()
