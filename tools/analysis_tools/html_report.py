r"""Writes one HTML file that shows a test run; it works offline, and needs no server.

Example:
    python tools/analysis_tools/html_report.py data/toyvis/val/instances.json \
        work_dirs/quickstart/results.json data/toyvis/val/JPEGImages \
        --log work_dirs/quickstart --out report.html
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmboxvis.files import ImageRoot
from mmboxvis.visualization import write_report


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('gt', help='annotation file')
    parser.add_argument('results', help='result file: json, or a zip with results.json')
    parser.add_argument('images', type=Path, help='folder that the file names are relative to')
    parser.add_argument(
        '--linked',
        nargs='+',
        default=(),
        metavar='DIR',
        help='folders below it that may be links, such as OVIS/train',
    )
    parser.add_argument('--out', type=Path, default=Path('report.html'), metavar='HTML')
    parser.add_argument('--log', help='work dir of the training, or scalars.json: adds its curves')
    parser.add_argument('--title', help='heading of the page; default: the result file')
    parser.add_argument(
        '--num-videos',
        type=int,
        default=3,
        help='worst and best videos shown, of each (default: 3)',
    )
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score drawn (0-1)')
    parser.add_argument('--frames', type=int, default=24, help='frames of a video (default: 24)')
    parser.add_argument('--width', type=int, default=320, help='of a picture, in pixels')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the report; returns 1 where a file is missing or wrong."""
    args = parse_args(argv)
    try:
        path = write_report(
            ImageRoot(args.images, args.linked),
            args.gt,
            args.results,
            args.out,
            log=args.log,
            title=args.title or args.results,
            num_videos=args.num_videos,
            score_thr=args.score_thr,
            frames_per_video=args.frames,
            clip_width=args.width,
        )
    except (OSError, ValueError) as error:
        print(f'html_report: {error}', file=sys.stderr)
        return 1
    print(f'wrote {path}, {path.stat().st_size / 2**20:.1f} MB')
    return 0


if __name__ == '__main__':
    sys.exit(main())
