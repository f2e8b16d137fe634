"""Counts what data sets hold: Table 2 and Figure 2 of the paper for any set.

Takes files in YouTube-VIS and in COCO layout; several are also added up. For BVISD as the paper
counts it, with all videos of both video sets::

    python tools/analysis_tools/dataset_stats.py data/ytvis_2021/train/instances.json
        data/OVIS/annotations_train.json data/coco/annotations/instances_train2017.json
        --names YTVIS21 OVIS COCO --total BVISD --bvisd --out work_dirs/bvisd_stats
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mmboxvis.datasets.dataset_figures import plot_categories, plot_histograms
from mmboxvis.datasets.dataset_stats import (
    BINS,
    BOX_SECONDS,
    MASK_SECONDS,
    ORIGINS,
    SetStatistics,
    annotation_days,
    category_table,
    dataset_statistics,
    statistics_table,
)
from mmboxvis.datasets.json_stream import write_json_stream
from mmboxvis.files import whole_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('ann_files', nargs='+', metavar='JSON')
    parser.add_argument('--names', nargs='+', metavar='NAME', help='of the sets, one a file')
    parser.add_argument('--total', default='total', metavar='NAME', help='of the sum')
    parser.add_argument(
        '--bvisd',
        action='store_true',
        help='count only what BVISD takes, under its classes, and only images that have some',
    )
    parser.add_argument(
        '--origin',
        nargs='+',
        choices=('auto', *ORIGINS),
        metavar='SET',
        help=f'data sets that the categories are of, one a file: {", ".join(ORIGINS)}; auto: found '
        'by their names (auto)',
    )
    parser.add_argument('--per-class', action='store_true', help='print objects per class, too')
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write statistics.json, categories.csv, categories.png and histograms.png',
    )
    args = parser.parse_args(argv)
    if args.names is not None and len(args.names) != len(args.ann_files):
        parser.error(f'{len(args.names)} names for {len(args.ann_files)} files')
    args.origin = args.origin or ['auto'] * len(args.ann_files)
    if len(args.origin) != len(args.ann_files):
        parser.error(f'--origin: {len(args.origin)} sets for {len(args.ann_files)} files')
    names = args.names or [Path(path).stem for path in args.ann_files]
    if len(set(names)) != len(names) or args.total in names:
        parser.error('two sets have the same name; tell them apart with --names')
    args.names = names
    return args


def print_tables(sets: list[SetStatistics], total: str, per_class: bool) -> None:
    """Prints Table 2, and Figure 2 as a table."""
    console = Console()
    columns = statistics_table(sets, total)
    table = Table('', *columns)
    for row in next(iter(columns.values())):
        table.add_row(row, *(_cell(column[row]) for column in columns.values()))
    for column in table.columns[1:]:
        column.justify = 'right'
    console.print(table)
    if per_class:
        table = Table('objects per class', *(one.name for one in sets))
        for name, counts in category_table(sets).items():
            table.add_row(name, *map(_cell, counts))
        console.print(table)


def _cell(value: int | None) -> str:
    return f'{value:,}' if value else '-'


def as_json(sets: list[SetStatistics], total: str) -> dict[str, Any]:
    """Everything that was counted."""
    return dict(
        table=statistics_table(sets, total),
        exact_days={
            one.name: dict(
                box=float(annotation_days(one.num_objects, BOX_SECONDS)),
                pixel=float(annotation_days(one.num_objects, MASK_SECONDS)),
            )
            for one in sets
        },
        objects_per_class={one.name: one.objects_per_class for one in sets},
        # the last bin is open
        histogram_edges={name: edges[:-1] for name, edges in BINS.items()},
        histograms={
            one.name: {name: counts.tolist() for name, counts in one.histograms().items()}
            for one in sets
        },
        occlusion={one.name: one.occlusion for one in sets},
    )


def write_files(sets: list[SetStatistics], total: str, folder: Path) -> None:
    """Writes tables and pictures."""
    write_json_stream(folder / 'statistics.json', as_json(sets, total))
    with (
        whole_file(folder / 'categories.csv') as temporary,
        open(temporary, 'w', newline='', encoding='utf-8') as file,
    ):
        writer = csv.writer(file)
        writer.writerow(['class', *(one.name for one in sets)])
        writer.writerows([name, *counts] for name, counts in category_table(sets).items())
    plot_categories(sets, folder / 'categories.png')
    plot_histograms(sets, folder / 'histograms.png')


def _bar(progress: Progress, name: str, path: str) -> Callable[[int], None]:
    task = progress.add_task(name, total=Path(path).stat().st_size)
    return lambda done: progress.update(task, completed=done)


def main(argv: list[str] | None = None) -> int:
    """Counts, prints and writes."""
    args = parse_args(argv)
    sets = []
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for path, name, origin in zip(args.ann_files, args.names, args.origin, strict=True):
                one = dataset_statistics(
                    path,
                    name=name,
                    origin=None if origin == 'auto' else origin,
                    as_bvisd=args.bvisd,
                    on_bytes=_bar(progress, name, path),
                )
                sets.append(one)
        print_tables(sets, args.total, args.per_class)
        if args.out is not None:
            write_files(sets, args.total, Path(args.out))
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
