"""Joins YouTube-VIS 2021, OVIS and COCO into BVISD, the training set of BoxVIS.

Example::

    python tools/dataset_converters/build_bvisd.py --ytvis21 data/ytvis_2021/train/instances.json
        --ovis data/OVIS/annotations_train.json
        --coco data/coco/annotations/instances_train2017.json --out data/bvisd --masks valid
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from mmboxvis.datasets.bvisd_builder import FRAME_FOLDERS, build_bvisd
from mmboxvis.datasets.categories import Source


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--ytvis21', metavar='JSON', help='training file of YouTube-VIS 2021')
    parser.add_argument('--ovis', metavar='JSON', help='training file of OVIS')
    parser.add_argument('--coco', metavar='JSON', help='training file of COCO')
    parser.add_argument('--out', metavar='DIR', required=True, help='folder to write')
    parser.add_argument(
        '--released-mapping',
        action='store_true',
        help="send COCO's trucks to turtle, as the released program does by mistake",
    )
    parser.add_argument(
        '--masks',
        choices=('none', 'valid', 'all'),
        default='none',
        help="files that keep masks: 'none' (default), 'valid' to compute mask AP, 'all' to train "
        "with pixels or with box_source='mask'",
    )
    video_sets: tuple[Source, ...] = ('ytvis21', 'ovis')
    for source in video_sets:
        parser.add_argument(
            f'--{source}-frames',
            metavar='DIR',
            default=FRAME_FOLDERS[source],
            help='folder of its frames below the data root, for bvisd_valid.json '
            '(default: %(default)s)',
        )
    parser.add_argument('--dry-run', action='store_true', help='count, but write nothing')
    parser.add_argument('--quiet', action='store_true', help='no progress bar and no table')
    args = parser.parse_args(argv)
    if args.ytvis21 is None and args.ovis is None and args.coco is None:
        parser.error('give at least one of --ytvis21, --ovis and --coco')
    return args


class _Bars:
    """One bar for each thing that is read."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int) -> None:
        if label not in self.tasks:
            self.tasks[label] = self.progress.add_task(label, total=total)
        self.progress.update(self.tasks[label], completed=done)


def print_table(console: Console, manifest: dict[str, Any]) -> None:
    """Shows what the files hold."""
    table = Table('file', *('videos', 'images', 'frames', 'instances', 'objects'))
    for column in table.columns[1:]:
        column.justify = 'right'
    for name, counts in manifest['outputs'].items():
        table.add_row(name, *(f'{counts[c.header]:,}' if c.header in counts else '-'
                              for c in table.columns[1:]))  # fmt: skip
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    """Builds the set; 0 where it worked, 1 where an input is not right."""
    args = parse_args(argv)
    console = Console(stderr=True, quiet=args.quiet)
    folders: dict[Source, str] = {
        **FRAME_FOLDERS,
        'ytvis21': args.ytvis21_frames,
        'ovis': args.ovis_frames,
    }
    columns = (TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            Progress(*columns, console=console) as progress,
        ):
            warnings.simplefilter('always', UserWarning)
            manifest = build_bvisd(
                args.out,
                ytvis21=args.ytvis21,
                ovis=args.ovis,
                coco=args.coco,
                released_mapping=args.released_mapping,
                masks=args.masks,
                frame_folders=folders,
                dry_run=args.dry_run,
                progress=_Bars(progress),
            )
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            print(f'warning: {warning.message}', file=sys.stderr)
    print_table(Console(quiet=args.quiet), manifest)
    if args.dry_run:
        print('Nothing was written.')
    elif args.masks == 'none':
        print(
            f'BVISD is in {args.out}, boxes only: validation compares boxes. '
            'Mask AP needs --masks valid.'
        )
    else:
        print(f'BVISD is in {args.out}.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
