"""Says what is wrong with a result file before a benchmark server does.

Exits with 0 if the file is a valid submission, with 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys

from mmboxvis.evaluation import check_submission
from mmboxvis.evaluation.functional import read_ground_truth, read_results


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('results', help='result file: json, or a zip with results.json')
    parser.add_argument('gt', help='annotation file; its annotations are not needed')
    parser.add_argument(
        '--max-problems', type=int, default=20, help='how many problems to list (default: 20)'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Prints the problems, or what the file holds."""
    args = parse_args(argv)
    try:
        truth = read_ground_truth(args.gt)
        problems = check_submission(args.results, truth, max_problems=args.max_problems)
    except (OSError, ValueError) as error:
        problems = [str(error)]
    if problems:
        print('\n'.join(problems))
        return 1
    entries, _ = read_results(args.results)
    covered = {entry['video_id'] for entry in entries}
    print(
        f'{args.results}: valid, {len(entries)} tracks in {len(covered)} of '
        f'{len(truth.videos)} videos'
    )
    empty = [str(video_id) for video_id in truth.videos if video_id not in covered]
    if empty:
        print(f'no track in {len(empty)} videos: {", ".join(empty[:20])}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
