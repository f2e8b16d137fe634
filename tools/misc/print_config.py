"""Print a config as training sees it, bases and command line merged in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from mmboxvis._cli import one_line_errors, read_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--save-path', help='also write it here: .py, .json or .yml')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='changes to it'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Print, and save where asked to."""
    args = parse_args(argv)
    if args.save_path and Path(args.save_path).suffix not in ('.py', '.json', '.yml'):
        sys.exit('print_config.py: error: --save-path has to end in .py, .json or .yml')
    with one_line_errors('print_config.py'):
        cfg = read_config(args.config, args.cfg_options)
    print(cfg.pretty_text)
    if args.save_path:
        Path(args.save_path).parent.mkdir(parents=True, exist_ok=True)
        cfg.dump(args.save_path)


if __name__ == '__main__':
    main()
