r"""Plots losses, learning rate and AP of one or more trainings.

Example:
    python tools/analysis_tools/plot_logs.py work_dirs/a work_dirs/b --out curves.png \
        --keys loss 'loss_*' lr '*/AP'
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmboxvis.visualization import plot_training_log


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        'work_dirs', nargs='+', metavar='WORK_DIR', help='work dir of a training, or scalars.json'
    )
    parser.add_argument(
        '--out', metavar='PNG', help='picture to write (default: curves.png in the first WORK_DIR)'
    )
    parser.add_argument(
        '--keys', nargs='+', metavar='KEY', help="scalars to plot; shell patterns such as 'loss_*'"
    )
    parser.add_argument('--labels', nargs='+', metavar='NAME', help='names of the trainings')
    parser.add_argument(
        '--smoothing', type=float, default=0.9, help='weight of the moving average, 0 for none'
    )
    parser.add_argument('--title', default='', help='a line above the panels')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit status."""
    args = parse_args(argv)
    first = Path(args.work_dirs[0])
    out = args.out or (first.parent if first.is_file() else first) / 'curves.png'
    try:
        path = plot_training_log(
            args.work_dirs,
            out,
            keys=args.keys,
            labels=args.labels,
            smoothing=args.smoothing,
            title=args.title,
        )
    except (OSError, ValueError) as error:
        print(f'plot_logs: {error}', file=sys.stderr)
        return 1
    print(f'wrote {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
