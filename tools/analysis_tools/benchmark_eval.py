"""Times the evaluator against the plain implementation that the tests compare it with."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
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


def main(argv: list[str] | None = None) -> float:
    """Prints both times and returns how many times faster the evaluator is."""
    gt, results = make_case(parse_args(argv))
    start = time.perf_counter()
    fast = evaluate_vis(gt, results)
    middle = time.perf_counter()
    slow = plain.evaluate(gt, results)
    end = time.perf_counter()
    worst = max(abs(fast[name] - slow[name]) for name in slow)
    ratio = (end - middle) / (middle - start)
    print(
        f'evaluator {middle - start:.3f} s, plain {end - middle:.3f} s, ratio {ratio:.1f}, '
        f'largest difference {worst:.1e}'
    )
    return ratio


if __name__ == '__main__':
    main()
