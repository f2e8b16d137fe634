"""Lists every fault of an annotation file that training would trip over, without training.

Takes files in YouTube-VIS and in COCO layout. Exits with 1 if there are errors, with 0 if there
are none or only warnings. With --fix, a repaired copy is written and judged instead.

Example: ``python tools/misc/check_dataset.py data/mine/boxes.json --images data/mine/JPEGImages``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np
from rich.console import Console
from rich.progress import Progress

from mmboxvis.datasets import categories
from mmboxvis.datasets.checking import CheckReport, check_dataset, check_frames, fix_dataset
from mmboxvis.datasets.json_stream import write_json_stream
from mmboxvis.evaluation.functional.rle import run_totals
from mmboxvis.files import ImageRoot

KNOWN_CLASSES = dict(
    ytvis19=categories.YTVIS19_CLASSES,
    ytvis21=categories.YTVIS21_CLASSES,
    ytvis22=categories.YTVIS22_CLASSES,
    ovis=categories.OVIS_CLASSES,
    coco=categories.COCO_CLASSES,
    bvisd=categories.BVISD_CLASSES,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_file', help='json in YouTube-VIS or COCO layout')
    parser.add_argument('--images', metavar='DIR', help='look at every frame in this folder')
    parser.add_argument(
        '--linked',
        nargs='+',
        default=(),
        metavar='DIR',
        help='folders below that of --images that may be links, such as OVIS/train',
    )
    parser.add_argument(
        '--decode', action='store_true', help='decode every frame: slow, finds files cut off'
    )
    parser.add_argument('--num-workers', type=int, default=4, help='threads that read frames')
    parser.add_argument(
        '--classes',
        nargs='+',
        metavar='NAME',
        help=f'classes to train: names, or one of {", ".join(KNOWN_CLASSES)}',
    )
    parser.add_argument(
        '--masks', action='store_true', help='masks are to be used, so their faults are errors'
    )
    parser.add_argument(
        '--empty-boxes',
        choices=('error', 'absent'),
        help='what a box without area is to the data set (default: error in YouTube-VIS layout, '
        'absent in that of COCO)',
    )
    parser.add_argument('--test', action='store_true', help='for testing: needs no annotations')
    parser.add_argument('--fix', metavar='OUT', help='write a repaired copy, and check that')
    parser.add_argument('--report', metavar='OUT', help='write all problems as json')
    parser.add_argument(
        '--max-problems', type=int, metavar='N', help='print only the first N (default: all)'
    )
    return parser.parse_args(argv)


def _mask_totals(strings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    totals = run_totals(strings)
    return totals.intact, totals.pixels


def _classes(names: list[str] | None) -> tuple[str, ...] | None:
    if names is None:
        return None
    return KNOWN_CLASSES.get(names[0], tuple(names)) if len(names) == 1 else tuple(names)


def _bar(progress: Progress, label: str) -> Callable[[int], None]:
    task = progress.add_task(label, total=None)
    return lambda done: progress.update(task, completed=done)


def _check(path: str, args: argparse.Namespace, progress: Progress) -> CheckReport:
    report = check_dataset(
        path,
        classes=_classes(args.classes),
        uses_masks=args.masks,
        empty_boxes=args.empty_boxes,
        need_annotations=not args.test,
        mask_totals=_mask_totals,
        on_bytes=_bar(progress, 'annotations'),
    )
    if args.images is not None and report.counts:
        task = progress.add_task('frames')
        report.problems += check_frames(
            path,
            ImageRoot(args.images, args.linked),
            decode=args.decode,
            num_workers=args.num_workers,
            on_frame=lambda done, total: progress.update(task, completed=done, total=total),
        )
    return report


def print_report(report: CheckReport, limit: int | None) -> None:
    """Prints problems, errors first, and one line that sums them up."""
    ordered = report.errors + report.warnings
    for problem in ordered[:limit]:
        print(problem)
    if limit is not None and len(ordered) > limit:
        print(f'... and {len(ordered) - limit} more')
    counts = ', '.join(f'{value:,} {name}' for name, value in report.counts.items())
    repairs = sum(problem.fixable for problem in report.problems)
    hint = f'; --fix OUT repairs {repairs}' if repairs else ''
    print(
        f'{report.path}: {len(report.errors)} errors, {len(report.warnings)} warnings{hint}'
        + (f' ({counts})' if counts else '')
    )


def main(argv: list[str] | None = None) -> int:
    """Prints what is wrong."""
    args = parse_args(argv)
    path = args.ann_file
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            if args.fix is not None:
                repairs = fix_dataset(path, args.fix, on_bytes=_bar(progress, 'repairing'))
                path = args.fix
                for what, times in repairs.items():
                    print(f'repaired: {what}: {times:,}')
            report = _check(path, args, progress)
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    print_report(report, args.max_problems)
    if args.report is not None:
        write_json_stream(args.report, report.as_dict())
    return 1 if report.errors else 0


if __name__ == '__main__':
    sys.exit(main())
