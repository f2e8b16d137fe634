"""Masks for drawn boxes: ``python tools/boxes_to_masks.py BOXES.json IMAGES --config C ...``.

BOXES.json is in YouTube-VIS layout with ``bboxes``; its ``file_names`` lie in the folder IMAGES.
Writes into DIR, each file whole or not at all: ``masks.json`` (the same with masks and a
confidence a frame), ``review.csv`` (what a human should look at, the most doubtful first),
``summary.json``, and the exports asked for.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from mmboxvis._cli import write_json
from mmboxvis.apis import VideoSegmenter
from mmboxvis.apis.boxes_to_masks import (
    BoxesToMasks,
    doubtful_frames,
    score_masks,
    true_masks,
)
from mmboxvis.apis.mask_exports import (
    cvat_frames,
    to_coco,
    write_cvat_images,
    write_cvat_videos,
)
from mmboxvis.datasets.video_json import read_json
from mmboxvis.files import ImageRoot, require_writable, whole_file
from mmboxvis.models.task_modules import AffinityRefinement, ColorModelRefinement

REVIEW_COLUMNS = (
    'video',
    'frame',
    'file_name',
    'annotation_id',
    'category',
    'confidence',
    'reason',
)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('boxes', type=Path, help='annotations in YouTube-VIS layout')
    parser.add_argument('images', type=Path, help='folder that the file names are relative to')
    parser.add_argument(
        '--linked',
        nargs='+',
        default=(),
        metavar='DIR',
        help='folders below it that may be links, such as OVIS/train',
    )
    parser.add_argument('--checkpoint', type=Path, required=True, help='weights, ours or released')
    parser.add_argument(
        '--config',
        type=Path,
        help='config of the weights, for released ones that of configs/testing; without one they '
        'run with a short edge of 360',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where to write')
    parser.add_argument(
        '--class-agnostic',
        action='store_true',
        help='match by boxes alone, for classes that the network does not know',
    )
    parser.add_argument(
        '--refine',
        action='store_true',
        help='draw the masks to the colours of the frame before they are cut to their boxes',
    )
    parser.add_argument(
        '--min-confidence', type=float, default=0.5, help='list masks below it for review (0-1)'
    )
    parser.add_argument(
        '--review-share',
        type=float,
        default=0.1,
        help='list at least this share of the masks, the least confident (0-1)',
    )
    parser.add_argument('--gt', type=Path, help='the same annotations with masks, to score with')
    parser.add_argument('--coco', action='store_true', help='write coco.json, one image a frame')
    parser.add_argument('--cvat-images', action='store_true', help='write cvat_images.xml')
    parser.add_argument('--cvat-video', action='store_true', help='write cvat_video/NAME.xml')
    parser.add_argument(
        '--first-frame',
        type=int,
        metavar='N',
        help='for CVAT video: number in the name of the first picture of the video, 0 or 1',
    )
    parser.add_argument(
        '--count-frames',
        action='store_true',
        help='for CVAT video: number frames 0, 1, 2, ... whatever their names, for a task that is '
        'made of the images',
    )
    parser.add_argument(
        '--shape',
        choices=['mask', 'polygon'],
        help='of the exports; default: polygon for CVAT video, mask for the others',
    )
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    args = parser.parse_args(argv)
    for name in ('min_confidence', 'review_share'):
        if not 0 <= getattr(args, name) <= 1:
            parser.error(f'--{name.replace("_", "-")} must lie between 0 and 1')
    return args


def annotate(
    args: argparse.Namespace, truth: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the masks, once it is sure that they can be written and compared with the truth.

    Returns:
        The annotations with masks, and figures about the run.
    """
    segmenter = (
        VideoSegmenter.from_official(args.checkpoint, args.device)
        if args.config is None
        else VideoSegmenter(args.config, args.checkpoint, args.device)
    )
    annotator = BoxesToMasks(
        segmenter,
        class_agnostic=args.class_agnostic,
        refinements=[ColorModelRefinement(), AffinityRefinement()] if args.refine else [],
    )
    boxes = annotator.read(args.boxes, ImageRoot(args.images, args.linked))
    if args.cvat_video:  # whether its frames have numbers, before the work
        for video in boxes.videos:
            cvat_frames(video, args.first_frame, count=args.count_frames)
    if truth is not None:
        true_masks(boxes.content['annotations'], boxes.videos, truth, str(args.gt))
    require_places(args)
    begin = time.perf_counter()
    found = list(track(annotator.annotate(boxes), 'Annotating', total=len(boxes.videos)))
    seconds = time.perf_counter() - begin
    frames = sum(len(video['file_names']) for video in boxes.videos)
    confidences = np.concatenate([np.zeros(0), *(masks.confidences.ravel() for masks in found)])
    confidences = confidences[~np.isnan(confidences)]
    return boxes.with_masks(found), dict(
        videos=len(boxes.videos),
        frames=frames,
        masks=len(confidences),
        mean_confidence=round(float(confidences.mean()), 4) if len(confidences) else None,
        seconds=round(seconds, 2),
        frames_per_second=round(frames / seconds, 2),
    )


def require_places(args: argparse.Namespace) -> None:
    """Check that all files that were asked for can be written."""
    names = ['masks.json', 'review.csv', 'summary.json']
    names += ['coco.json'] * args.coco + ['cvat_images.xml'] * args.cvat_images
    names += ['cvat_video/NAME.xml'] * args.cvat_video
    for name in names:
        require_writable(args.out / name)


def write_review(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the list for a human as csv."""
    with whole_file(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, REVIEW_COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def export(args: argparse.Namespace, content: Mapping[str, Any]) -> list[Path]:
    """Write the formats that were asked for; returns their paths."""
    written = []
    if args.coco:
        written.append(args.out / 'coco.json')
        write_json(written[-1], to_coco(content, args.shape or 'mask'))
    if args.cvat_images:
        path = args.out / 'cvat_images.xml'
        written.append(write_cvat_images(path, content, args.shape or 'mask'))
    if args.cvat_video:
        folder = args.out / 'cvat_video'
        write_cvat_videos(
            folder,
            content,
            args.shape or 'polygon',
            args.first_frame,
            count=args.count_frames,
        )
        written.append(folder)
    return written


def run_all(args: argparse.Namespace) -> None:
    """Annotate, list what is doubtful, export, score."""
    truth = None if args.gt is None else read_json(args.gt)  # missing? say so before the work
    content, summary = annotate(args, truth)
    rows = doubtful_frames(content, args.min_confidence, args.review_share)
    summary['to_review'] = len(rows)
    write_json(args.out / 'masks.json', content)
    write_review(args.out / 'review.csv', rows)
    written = [args.out / name for name in ('masks.json', 'review.csv', 'summary.json')]
    written += export(args, content)
    if truth is not None:
        summary['scores'] = dataclasses.asdict(score_masks(content, truth, str(args.gt)))
    write_json(args.out / 'summary.json', summary)
    print(
        f'{summary["masks"]} boxes in {summary["frames"]} frames, {len(rows)} to review, '
        f'{summary["frames_per_second"]} frames/s'
    )
    if truth is not None:
        scores = summary['scores']
        print(
            f'mean IoU {scores["mean_iou"]:.3f} (filled boxes {scores["box_mean_iou"]:.3f}), '
            f'above 0.5: {scores["above_50"]:.1%}, above 0.7: {scores["above_70"]:.1%}'
        )
    crowds = sum(bool(entry.get('iscrowd')) for entry in content['annotations'])
    if crowds:
        print(f'{crowds} crowd annotations got no masks and are in no export')
    print(f'Wrote {", ".join(map(str, written))}')


def main(argv: Sequence[str] | None = None) -> None:
    """Find masks for boxes; a failure is one line and exit code 1."""
    args = parse_args(argv)
    try:
        run_all(args)
    except (OSError, ValueError) as error:
        sys.exit(f'boxes_to_masks.py: error: {error}')
    except KeyboardInterrupt:
        sys.exit('boxes_to_masks.py: broken off')


if __name__ == '__main__':
    main()
