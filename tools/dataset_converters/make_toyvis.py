"""Draws ToyVIS, the small seeded data set.

Example, the set of the tiny configs:
    python tools/dataset_converters/make_toyvis.py data/toyvis --num-train 200 --num-val 30
"""

from __future__ import annotations

import argparse
import sys

from mmboxvis.datasets import generate_toyvis


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out_dir', help='folder to write')
    parser.add_argument('--num-train', type=int, default=40, help='training videos')
    parser.add_argument('--num-val', type=int, default=10, help='validation videos')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--size', type=int, nargs=2, default=(128, 192), metavar=('H', 'W'), help='frame size'
    )
    parser.add_argument('--difficulty', choices=('easy', 'hard'), default='easy')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that draw')
    parser.add_argument(
        '--overwrite', action='store_true', help='replace a set made with other settings'
    )
    return parser.parse_args()


def main() -> None:
    """Draws the set; a failure is one line and exit code 1."""
    args = vars(parse_args())
    args['size'] = tuple(args['size'])
    try:
        out = generate_toyvis(args.pop('out_dir'), **args)
    except (OSError, ValueError) as error:
        sys.exit(f'make_toyvis.py: error: {error}')
    print(f'ToyVIS is in {out}')


if __name__ == '__main__':
    main()
