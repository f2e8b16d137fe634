"""Times the evaluator against the tests' plain implementation and against mmdet's."""

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
from tests.reference import vis_eval as plain


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--videos', type=int, default=4)
    parser.add_argument('--frames', type=int, default=20)
    parser.add_argument('--tracks', type=int, default=5, help='annotated tracks a video')
    parser.add_argument('--predictions', type=int, default=50, help='predicted tracks a video')
    parser.add_argument('--classes', type=int, default=4)
    parser.add_argument('--size', type=int, nargs=2, default=(360, 640), metavar=('H', 'W'))
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args(argv)


def _ellipses(rng: np.random.Generator, size: tuple[int, int], num_frames: int) -> list[Any]:
    """A drifting ellipse with a ragged border, missing in about one frame of eight."""
    height, width = size
    y, x = np.ogrid[:height, :width]
    centre, drift = rng.uniform(0.2, 0.8, 2), rng.uniform(-0.01, 0.01, 2)
    radius, phase = rng.uniform(0.05, 0.25, 2), rng.uniform(0, 6)
    masks: list[Any] = []
    for frame in range(num_frames):
        dy = (y / height - centre[0] - frame * drift[0]) / radius[0]
        dx = (x / width - centre[1] - frame * drift[1]) / radius[1]
        inside = dy**2 + dx**2 < 1 + 0.1 * np.sin(9 * np.arctan2(dy, dx) + phase)
        mask = mask_api.encode(np.asfortranarray(inside.astype(np.uint8)))
        masks.append(None if rng.random() < 0.125 else mask)
    return masks


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
        start = time.perf_counter()
        evaluator = YTVISeval(api, api.loadRes(own))
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        return time.perf_counter() - start, float(evaluator.stats[0])


def main(argv: list[str] | None = None) -> float:
    """Prints the times and returns how many times faster the evaluator is than the plain one."""
    args = parse_args(argv)
    warm_up = '--videos 1 --frames 1 --tracks 1 --predictions 1 --classes 1 --size 20 30'
    tiny = make_case(parse_args(warm_up.split()))
    for run in (evaluate_vis, plain.evaluate, time_mmdet):
        run(*tiny)
    gt, results = make_case(args)
    start = time.perf_counter()
    fast = evaluate_vis(gt, results)
    middle = time.perf_counter()
    slow = plain.evaluate(gt, results)
    end = time.perf_counter()
    peer, peer_ap = time_mmdet(gt, results)
    worst = max(abs(fast[name] - slow[name]) for name in slow)
    worst = max(worst, abs(fast['AP'] - peer_ap))
    own = middle - start
    height, width = args.size
    print(
        f'{args.videos} videos of {args.frames} frames {width}x{height}, {args.tracks} annotated, '
        f'{args.predictions} predicted: evaluator {own:.3f} s, plain {end - middle:.3f} s '
        f'(ratio {(end - middle) / own:.1f}), mmdet {peer:.3f} s (ratio {peer / own:.1f}), '
        f'largest difference {worst:.1e}'
    )
    return (end - middle) / own


if __name__ == '__main__':
    main()
