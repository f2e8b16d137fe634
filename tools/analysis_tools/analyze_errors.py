"""Says what costs AP: errors of tracks by kind, and the gain of mending one kind at a time.

GT and RESULTS are in the YouTube-VIS layout, as for eval_results.py. The kinds follow TIDE:
classification, mask quality, association (the masks are good, but the track changes the object
or is broken), both class and mask, duplicate, background, missed; see ErrorAnalysis.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

from mmboxvis.evaluation import ErrorAnalysis, format_errors
from mmboxvis.evaluation.functional import IOU_THRESHOLDS
from mmboxvis.files import whole_file
from mmboxvis.visualization import plot_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('gt', help='annotation file')
    parser.add_argument('results', help='result file: json, or a zip with results.json')
    parser.add_argument(
        '--iou-type',
        choices=('auto', 'segm', 'box'),
        default='auto',
        help='what to compare; auto: masks where the annotations have some (default)',
    )
    parser.add_argument(
        '--thresholds',
        nargs='+',
        type=float,
        default=IOU_THRESHOLDS.tolist(),
        metavar='IOU',
        help='ascending; default: 0.50 0.55 ... 0.95',
    )
    parser.add_argument(
        '--background-iou',
        type=float,
        default=0.1,
        help='a track with less IoU has nothing to do with an object (default: 0.1)',
    )
    parser.add_argument(
        '--out', type=Path, metavar='JSON', help='write gains, numbers and each single error'
    )
    parser.add_argument('--plot', type=Path, metavar='PNG', help='draw the gains')
    return parser.parse_args(argv)


def to_json(analysis: ErrorAnalysis) -> dict[str, Any]:
    """The analysis as json can write it; the score of a missed object is null."""
    errors = [dataclasses.asdict(error) for error in analysis.errors]
    return dict(
        iou_type=analysis.iou_type,
        thresholds=analysis.thresholds.tolist(),
        ap=analysis.ap.tolist(),
        gains={kind: gain.tolist() for kind, gain in analysis.gains.items()},
        counts={kind: number.tolist() for kind, number in analysis.counts.items()},
        errors=[dict(e, score=None if math.isnan(e['score']) else e['score']) for e in errors],
    )


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns 1 where a file is missing or wrong."""
    args = parse_args(argv)
    try:
        analysis = ErrorAnalysis.run(
            args.gt,
            args.results,
            iou_type=args.iou_type,
            thresholds=args.thresholds,
            background_iou=args.background_iou,
        )
        print(format_errors(analysis))
        if args.out:
            with whole_file(args.out) as part:
                part.write_text(json.dumps(to_json(analysis), indent=1))
        if args.plot:
            plot_errors(analysis, args.plot)
    except (OSError, ValueError) as error:
        print(f'analyze_errors: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
