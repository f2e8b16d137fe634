"""Times the evaluator against the tests' plain implementation and against mmdet's.

With ``--table`` it goes through sets of many shapes: few and many videos, frames, predictions,
classes and pixels, with and without occlusion. Times are those of the processor, for all of them
work in one thread, the best of the rounds, taken turn about; what comes once is told apart.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.evaluation.functional import YTVIS, YTVISeval
from pycocotools import mask as mask_api

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mmboxvis.evaluation import evaluate_vis
from mmboxvis.evaluation.functional.occlusion import OCCLUSION_LEVELS
from tools.analysis_tools import measuring

TINY = '--videos 1 --frames 1 --tracks 1 --predictions 1 --classes 1 --size 20 30'
TABLE = (
    '--videos 40 --frames 1 --predictions 5 --size 60 80',
    '--videos 100 --frames 30 --predictions 10 --size 60 80',
    '--videos 100 --frames 30 --predictions 10 --size 60 80 --classes 40',
    '--videos 30 --frames 30 --predictions 100 --size 120 160 --classes 40',
    '',
    '--occlusion',
    '--videos 1 --frames 5 --predictions 10 --size 720 1280',
    '--videos 2 --frames 10 --tracks 20 --predictions 100 --size 720 1280 --classes 1',
    '--videos 10 --frames 60 --tracks 8 --predictions 20 --classes 25',
    '--videos 1 --frames 200 --predictions 20 --classes 1',
    '--videos 3 --frames 100 --predictions 100 --size 180 320 --classes 40 --occlusion',
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--videos', type=int, default=4)
    parser.add_argument('--frames', type=int, default=20)
    parser.add_argument('--tracks', type=int, default=5, help='annotated tracks a video')
    parser.add_argument('--predictions', type=int, default=50, help='predicted tracks a video')
    parser.add_argument('--classes', type=int, default=4)
    parser.add_argument('--size', type=int, nargs=2, default=(360, 640), metavar=('H', 'W'))
    parser.add_argument('--occlusion', action='store_true', help='annotate occlusion too')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--no-plain', action='store_true', help='leave the plain one out')
    parser.add_argument('--table', action='store_true', help='many sets, one row each')
    return parser.parse_args(argv)


def _ellipses(rng: np.random.Generator, size: tuple[int, int], num_frames: int) -> list[Any]:
    """A drifting ellipse with a ragged border, missing in about one frame of eight."""
    height, width = size
    centre, drift = rng.uniform(0.2, 0.8, 2), rng.uniform(-0.01, 0.01, 2)
    radius, phase = rng.uniform(0.05, 0.25, 2), rng.uniform(0, 6)
    masks: list[Any] = []
    for frame in range(num_frames):
        middle = centre + frame * drift
        # only where it can be: the ragged border lies within 1.05 radii
        low, high = ((middle + side * 1.05 * radius) * size for side in (-1, 1))
        low, high = (np.clip(corner, 0, size).astype(int) for corner in (low, high + 1))
        y, x = np.ogrid[low[0] : high[0], low[1] : high[1]]
        dy = (y / height - middle[0]) / radius[0]
        dx = (x / width - middle[1]) / radius[1]
        image = np.zeros(size, np.uint8, order='F')
        image[low[0] : high[0], low[1] : high[1]] = dy**2 + dx**2 < 1 + 0.1 * np.sin(
            9 * np.arctan2(dy, dx) + phase
        )
        mask = mask_api.encode(image)
        masks.append(None if rng.random() < 0.125 else mask)
    return masks


def _occlusion(rng: np.random.Generator, args: argparse.Namespace) -> dict[str, list[str]]:
    if not args.occlusion:
        return {}
    return dict(occlusion=rng.choice(sorted(OCCLUSION_LEVELS), args.frames).tolist())


def make_case(args: argparse.Namespace) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Random annotations, and predictions of which some are shifted copies of them."""
    rng = np.random.default_rng(args.seed)
    height, width = args.size
    gt: dict[str, Any] = dict(videos=[], annotations=[])
    gt['categories'] = [dict(id=i + 1, name=f'class {i + 1}') for i in range(args.classes)]
    results = []
    for video_id in range(1, args.videos + 1):
        video = dict(id=video_id, height=height, width=width, length=args.frames)
        gt['videos'].append(video)
        pool = [_ellipses(rng, args.size, args.frames) for _ in range(args.predictions)]
        for index in range(args.tracks):
            masks = pool[index] if rng.random() < 0.5 else [*pool[index][1:], None]
            gt['annotations'].append(
                dict(
                    video_id=video_id,
                    category_id=1 + index % args.classes,
                    segmentations=masks,
                    **_occlusion(rng, args),
                )
            )
        for index, masks in enumerate(pool):
            results.append(
                dict(
                    video_id=video_id,
                    category_id=1 + index % args.classes,
                    score=float(rng.random()),
                    segmentations=masks,
                )
            )
    return gt, results


def time_mmdet(gt: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, float]:
    """Seconds that mmdet's evaluator takes, and its AP; preparing its input is not counted."""
    annotations = [
        dict(
            track,
            id=index + 1,
            iscrowd=0,
            areas=[mask and int(mask_api.area(mask)) for mask in track['segmentations']],
        )
        for index, track in enumerate(gt['annotations'])
    ]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        api = YTVIS(copy.deepcopy(dict(gt, annotations=annotations)))
        own = copy.deepcopy(results)
        start = time.process_time()
        evaluator = YTVISeval(api, api.loadRes(own))
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        return time.process_time() - start, float(evaluator.stats[0])


def _timed(run: Any, gt: dict[str, Any], results: list[dict[str, Any]]) -> tuple[float, Any]:
    start = time.process_time()
    scores = run(gt, results)
    return time.process_time() - start, scores


def compare(args: argparse.Namespace) -> tuple[float, float, float]:
    """Prints a line and returns the seconds of the evaluator, the plain one (0) and mmdet's."""
    plain = None if args.no_plain else measuring.slow_twin('vis_eval').evaluate
    gt, results = make_case(args)
    own, peer, slow = [], [], [0.0] if args.no_plain else []
    worst = 0.0
    for _ in range(args.rounds):
        seconds, fast = _timed(evaluate_vis, gt, results)
        own.append(seconds)
        seconds, peer_ap = time_mmdet(gt, results)
        peer.append(seconds)
        worst = max(worst, abs(fast['AP'] - peer_ap))
    if plain is not None:
        seconds, scores = _timed(plain, gt, results)
        slow.append(seconds)
        worst = max(worst, *(abs(fast[name] - scores[name]) for name in scores))
    if worst > 1e-6:
        raise SystemExit(f'the evaluators differ by {worst:.1e}: a fault')
    times = min(own), min(slow), min(peer)
    height, width = args.size
    ratio = '' if args.no_plain else f'plain {times[1]:.3f} s (ratio {times[1] / times[0]:.1f}), '
    print(
        f'{args.videos} videos of {args.frames} frames {width}x{height}, {args.classes} classes, '
        f'{args.tracks} annotated, {args.predictions} predicted'
        f'{", occlusion" if args.occlusion else ""}: evaluator {times[0]:.3f} s, {ratio}'
        f'mmdet {times[2]:.3f} s (ratio {times[2] / times[0]:.2f}), largest difference {worst:.1e}',
        flush=True,
    )
    return times


def main(argv: list[str] | None = None) -> float:
    """Prints the times and returns how many times faster the evaluator is than the plain one."""
    args = parse_args(argv)
    tiny = make_case(parse_args(TINY.split()))
    first = {run.__module__: _timed(run, *tiny)[0] for run in (evaluate_vis, time_mmdet)}
    print('first call of the evaluator and of mmdet:', *(f'{s:.3f} s' for s in first.values()))
    if not args.table:
        own, slow, _ = compare(args)
        return slow / own
    common = ['--rounds', str(args.rounds), '--seed', str(args.seed)]
    common += ['--no-plain'] * args.no_plain
    rows = [compare(parse_args([*row.split(), *common])) for row in TABLE]
    slowest = min(peer / own for own, _, peer in rows)
    print(f'against mmdet, the smallest ratio is {slowest:.2f}')
    return slowest


if __name__ == '__main__':
    main()
