"""Scores a result file against an annotation file, both in the YouTube-VIS layout."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from mmboxvis.evaluation import VISEvaluation, format_scores
from mmboxvis.files import whole_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('gt', help='annotation file')
    parser.add_argument('results', help='result file: json, or a zip with results.json')
    parser.add_argument(
        '--iou-type',
        choices=('auto', 'segm', 'box'),
        default='auto',
        help='what to compare; auto: masks where the annotations have some (default)',
    )
    parser.add_argument('--class-agnostic', action='store_true', help='take all classes for one')
    parser.add_argument('--per-class', action='store_true', help='list the classes as well')
    parser.add_argument('--out', type=Path, help='write the unrounded scores to this json file')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Prints the scores; returns 1 where a file is missing or wrong."""
    args = parse_args(argv)
    try:
        evaluation = VISEvaluation.run(
            args.gt, args.results, iou_type=args.iou_type, class_agnostic=args.class_agnostic
        )
        print(format_scores(evaluation, per_class=args.per_class))
        if args.out:
            scores = dict(
                iou_type=evaluation.iou_type,
                metrics=evaluation.metrics,
                per_class={c.name: c.metrics for c in evaluation.per_class},
            )
            with whole_file(args.out) as part:
                part.write_text(json.dumps(scores, indent=1))
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
