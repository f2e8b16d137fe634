"""Segment and track the objects of a video: ``python tools/infer.py SOURCE --config C ...``.

SOURCE is a video file, a folder of images, or one or more images. Writes into DIR, each file whole
or not at all: ``results.json`` (tracks in the YouTube-VIS result layout), ``video.json`` (what the
ids in it mean, and how fast it went) and ``overlay.mp4``. A run that was broken off goes on where
it stopped when the same command is given again.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mmboxvis._cli import write_json
from mmboxvis.apis import VideoSegmenter
from mmboxvis.apis.sources import FrameSource
from mmboxvis.visualization import write_video

Item = TypeVar('Item')
SPOOL = '.unfinished.sqlite'
DEFAULT_FPS = 8.0


class FramesPerSecond(ProgressColumn):
    """Speed of a task: that of late, and at its end that of all of it."""

    def render(self, task: Task) -> Text:
        """Shows frames per second once they are known."""
        speed = task.speed
        if task.finished_time:
            # frames come in bursts, which a short video has few of
            speed = (task.completed - task.fields['done']) / task.finished_time
        return Text('' if speed is None else f'{speed:.1f} frames/s')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'source',
        type=Path,
        nargs='+',
        help='video file, folder of images, or the images of a video in their order',
    )
    parser.add_argument('--checkpoint', type=Path, required=True, help='weights, ours or released')
    parser.add_argument(
        '--config',
        type=Path,
        help='config of the weights, for released ones that of configs/testing; without one they '
        'run with a short edge of 360, the query tracker, and numbers for names',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where to write')
    parser.add_argument('--start', type=int, default=0, help='first frame to use, from 0')
    parser.add_argument('--end', type=int, help='frame to stop before')
    parser.add_argument('--every', type=int, default=1, help='use every Nth frame')
    parser.add_argument(
        '--max-side', type=int, help='shrink larger frames; results have the shrunken size'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score of what is drawn (0-1)'
    )
    parser.add_argument('--boxes', action='store_true', help='draw the boxes around masks, too')
    parser.add_argument(
        '--trails', type=int, default=0, metavar='N', help='draw the way of the last N frames'
    )
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1, ...')
    parser.add_argument(
        '--no-video', action='store_true', help='write no overlay.mp4; that of an earlier run goes'
    )
    parser.add_argument(
        '--restart', action='store_true', help='begin anew where DIR holds an unfinished run'
    )
    parser.add_argument(
        '--save-every', type=float, default=60, metavar='SECONDS', help='how often to save progress'
    )
    args = parser.parse_args(argv)
    if args.trails < 0:
        parser.error('--trails must be at least 0')
    return args


def load_segmenter(args: argparse.Namespace) -> VideoSegmenter:
    """Load the network that the command line names."""
    if args.config is None:
        segmenter = VideoSegmenter.from_official(args.checkpoint, args.device)
        print(
            'No --config, so assumed: short edge 360, long edge at most 1333; the query tracker; '
            f'{len(segmenter.classes)} classes called {segmenter.classes[0]!r} and so on. Weights '
            'for OVIS or BVISD are meant for 480: give their config of configs/testing.'
        )
        return segmenter
    return VideoSegmenter(args.config, args.checkpoint, args.device)


def track(items: Iterable[Item], what: str, total: int | None, done: int = 0) -> Iterator[Item]:
    """Hand items through with a progress bar, frames per second and the time left."""
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        FramesPerSecond(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, speed_estimate_period=60) as progress:
        task = progress.add_task(what, total=total, completed=done, done=done)
        for item in items:
            yield item
            progress.advance(task)


def segment(segmenter: VideoSegmenter, args: argparse.Namespace) -> dict[str, float | None]:
    """Run the network over the video, from where an earlier run stopped.

    Returns:
        Frames segmented now, seconds they took, frames per second: ``None`` where an earlier run
        did them all.
    """
    spool = args.out / SPOOL
    if args.restart:
        spool.unlink(missing_ok=True)
    results = segmenter(
        args.source[0] if len(args.source) == 1 else args.source,
        start=args.start,
        end=args.end,
        every=args.every,
        max_side=args.max_side,
        resume=spool,
        save_every=args.save_every,
    )
    run, done = segmenter.run, segmenter.run.num_frames
    if done:
        print(f'Going on at frame {done}; --restart would begin anew.')
    begin, count = time.perf_counter(), 0
    try:
        for _ in track(results, 'Segmenting', run.source.num_frames, done):
            count += 1
    except BaseException:
        if not run.saved:  # there is nothing to go on from
            run.spool.close()
            spool.unlink()
        raise
    seconds = time.perf_counter() - begin
    speed = round(count / seconds, 2) if count else None
    return dict(frames=count, seconds=round(seconds, 2), frames_per_second=speed)


def cut_off(source: FrameSource) -> dict[str, int]:
    """How many frames a movie has and should have, if it ended before its header says."""
    if source.cut_off is None:
        return {}
    return dict(zip(('source_frames', 'source_frames_in_header'), source.cut_off, strict=True))


def describe(
    segmenter: VideoSegmenter, args: argparse.Namespace, speed: dict[str, float | None]
) -> dict[str, Any]:
    """What results.json is about, in the layout of an annotation file without annotations."""
    run = segmenter.run
    height, width = run.ori_shape
    video = dict(
        id=1,
        name=run.source.name,
        width=width,
        height=height,
        length=run.num_frames,
        source=' '.join(map(str, args.source)),
        start=args.start,
        every=args.every,
        fps=run.source.fps,
        **cut_off(run.source),
    )
    names = zip(segmenter.category_ids, segmenter.classes, strict=True)
    return dict(
        videos=[video],
        categories=[dict(id=category_id, name=name) for category_id, name in names],
        run=dict(
            **speed,
            device=args.device,
            peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        ),
    )


def remove_overlay(out: Path) -> Path | None:
    """Remove the overlay of an earlier run, which would stand beside results that are not its own.

    Returns:
        Its path, if there was one. A video without the files of a run beside it is left alone.
    """
    overlay = out / 'overlay.mp4'
    if not all(path.is_file() for path in (overlay, out / 'results.json', out / 'video.json')):
        return None
    overlay.unlink()
    return overlay


def run_all(args: argparse.Namespace) -> None:
    """Segment, write the results, draw."""
    segmenter = load_segmenter(args)
    speed = segment(segmenter, args)
    run = segmenter.run
    gone = remove_overlay(args.out)
    written = [segmenter.write_json(args.out / 'results.json'), args.out / 'video.json']
    write_json(written[1], describe(segmenter, args, speed))
    if not args.no_video:
        drawn = run.overlays(
            segmenter.classes,
            score_thr=args.score_thr,
            trail_length=args.trails,
            show_boxes=args.boxes,
        )
        frames = track(drawn, 'Drawing', run.num_frames)
        fps = run.source.fps or DEFAULT_FPS
        try:
            written.append(write_video(args.out / 'overlay.mp4', frames, fps))
        except (OSError, ValueError) as error:
            run.spool.close()
            done = ' and '.join(map(str, written))
            raise OSError(
                f'no overlay: {error}; {done} are complete, --no-video leaves the overlay out'
            ) from error
    shown = len(run.shown_tracks(args.score_thr).labels)
    run.spool.close()
    (args.out / SPOOL).unlink()
    lost = ''
    if run.source.cut_off is not None:
        came, told = run.source.cut_off
        lost = f' (the file ends before its header says: {came} of {told} frames)'
    pace = 'all segmented in an earlier run'
    if speed['frames_per_second'] is not None:
        pace = f'{speed["frames_per_second"]} frames/s'
    print(
        f'{run.num_frames} frames{lost}, {shown} tracks with a score of at least {args.score_thr}, '
        f'{pace}. Wrote {", ".join(map(str, written))}'
        + (f'. Removed {gone}, of an earlier run' if gone and args.no_video else '')
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Segment a video; a failure is one line and exit code 1."""
    args = parse_args(argv)
    try:
        run_all(args)
    except (OSError, ValueError, TypeError) as error:
        sys.exit(f'infer.py: error: {error}')
    except KeyboardInterrupt:
        spool = args.out / SPOOL
        what = f'; the same command goes on, {spool} knows where' if spool.exists() else ''
        sys.exit(f'infer.py: broken off{what or " before anything was saved"}')


if __name__ == '__main__':
    main()
