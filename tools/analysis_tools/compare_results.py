r"""Shows two or more results of the same videos side by side with the annotations.

Example:
    python tools/analysis_tools/compare_results.py data/toyvis/val/instances.json \
        data/toyvis/val/JPEGImages --results boxes=a/results.json masks=b/results.json \
        --out compare.mp4

``--out`` decides on the kind: .mp4 and .gif are videos, .png and .jpg sheets with a row for each
result (figures 3 to 8 of the paper).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mmboxvis.files import ImageRoot
from mmboxvis.visualization import comparison_sheet, comparison_video


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('gt', help='annotation file, with masks or boxes or nothing but videos')
    parser.add_argument('images', type=Path, help='folder that the file names are relative to')
    parser.add_argument(
        '--linked',
        nargs='+',
        default=(),
        metavar='DIR',
        help='folders below it that may be links, such as OVIS/train',
    )
    parser.add_argument(
        '--results',
        nargs='+',
        required=True,
        metavar='NAME=FILE',
        help='result files (json, or a zip), each with the name to write above it',
    )
    parser.add_argument('--out', type=Path, required=True, help='.mp4, .gif, .png or .jpg')
    parser.add_argument('--video-ids', nargs='+', type=int, metavar='ID', help='default: all')
    parser.add_argument('--score-thr', type=float, default=0.3, help='least score drawn (0-1)')
    video = parser.add_argument_group('videos')
    video.add_argument('--fps', type=float, default=8, help='frames per second (default: 8)')
    video.add_argument(
        '--trails', type=int, default=0, metavar='N', help='draw the way of N frames'
    )
    video.add_argument('--boxes', action='store_true', help='draw the boxes around masks, too')
    sheet = parser.add_argument_group('sheets')
    sheet.add_argument('--num-videos', type=int, default=4, help='spread over the file')
    sheet.add_argument('--frames', type=int, default=5, help='columns (default: 5)')
    sheet.add_argument('--title', default='', help='a line at the top')
    return parser.parse_args(argv)


def named_results(arguments: Sequence[str]) -> dict[str, str]:
    """Splits ``NAME=FILE``; a file without a name is called after its folder and stem.

    Raises:
        ValueError: two results have one name.
    """
    named: dict[str, str] = {}
    for argument in arguments:
        name, separator, path = argument.partition('=')
        if not separator or '/' in name:
            path = argument
            name = '/'.join(Path(path).with_suffix('').parts[-2:])
        if name in named:
            raise ValueError(f'two results are called {name!r}; give names: NAME=FILE')
        named[name] = path
    return named


def main(argv: Sequence[str] | None = None) -> int:
    """Draws; returns 1 where a file is missing or wrong."""
    args = parse_args(argv)
    common = dict(video_ids=args.video_ids, score_thr=args.score_thr)
    try:
        results = named_results(args.results)
        images = ImageRoot(args.images, args.linked)
        if args.out.suffix.lower() in ('.mp4', '.gif'):
            options = dict(fps=args.fps, trail_length=args.trails, show_boxes=args.boxes)
            comparison_video(images, args.gt, results, args.out, **common, **options)
        elif args.out.suffix.lower() in ('.png', '.jpg', '.jpeg'):
            options = dict(
                num_videos=args.num_videos, frames_per_video=args.frames, title=args.title
            )
            comparison_sheet(images, args.gt, results, args.out, **common, **options)
        else:
            raise ValueError(f'--out {args.out}: expected .mp4, .gif, .png or .jpg')
    except (OSError, ValueError) as error:
        print(f'compare_results: {error}', file=sys.stderr)
        return 1
    print(f'wrote {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
