"""Frames a second of a whole video, with and without reuse of the features between clips.

    python tools/analysis_tools/benchmark_fps.py CONFIG [CHECKPOINT] [--size 360 640]
        [--frames 20] [--rounds 5] [--clip-lengths 1 3] [--amp] [--compile]

A video of T-frame clips with a stride of 1 holds each frame T times. With reuse a frame passes
backbone and pixel decoder once; without, every clip goes through all of the network anew. Both ways
run in the same process, turn about, on the same random video; medians over the rounds are shown,
and the ratio is the median of the rounds' own. With clips of one frame both do the same work: how
far their ratio is from 1 tells how far the machine can be trusted.

*video* is all of VideoPredictor: network, tracker, and the masks enlarged and encoded at the
video's size. *network* is backbone, pixel decoder and query decoder, as in the middle of a long
video: the mean over the frames of what is done once a frame, plus the mean over the clips of what
is done once a clip. Masks of a network without a checkpoint are noise, and slow to encode, so
without one only *network* is to be quoted. The last column is the network's cost relative to the
shortest clips with reuse.

--amp computes in bfloat16 where autocast allows, --compile sends both parts of the network through
torch.compile. Ratios between two calls of this program compare two states of the machine:
``--beside bfloat16 compiled`` times the longest clips with reuse so as well, in the same rounds.
On a machine that does other work, count seconds of CPU: --cpu-time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import DefaultScope
from pycocotools import mask as mask_api
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mmboxvis.apis import load_weights
from mmboxvis.models.vis import BaseVIS, VideoPredictor
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, DecoderInputs, VideoPrediction
from tools.analysis_tools import measuring
from tools.analysis_tools.profile_step import random_clip


class TimedPredictor(VideoPredictor):
    """A predictor that keeps the seconds of each frame and each clip in its network."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frame_seconds: list[float] = []
        self.clip_seconds: list[float] = []

    @property
    def seconds(self) -> float:
        """Seconds a frame in the middle of a video, where each frame ends one clip."""
        return sum(
            statistics.mean(times or [0.0]) for times in (self.frame_seconds, self.clip_seconds)
        )

    def _encode_frame(self, image: np.ndarray) -> DecoderInputs:
        began = self._now()
        inputs = super()._encode_frame(image)
        self.frame_seconds.append(self._now() - began)
        return inputs

    def _predict_clip(self, ring: Iterable[DecoderInputs]) -> ClipPredictions:
        began = self._now()
        prediction = super()._predict_clip(ring)
        self.clip_seconds.append(self._now() - began)
        return prediction

    def _now(self) -> float:
        return clock(self.model.data_preprocessor.device)


class _Pixels(VideoPredictor):
    """Keeps pixels where the predictor keeps features, and encodes them for each clip anew."""

    def _encode_frame(self, image: np.ndarray) -> Any:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
        return self.model.data_preprocessor.frame(pixels)

    def _predict_clip(self, ring: Iterable[Any]) -> ClipPredictions:
        clip: Tensor = torch.stack(list(ring), 1)
        return self.model.student(clip, last_only=True)[-1].clip(0)


class TimedAnewPredictor(TimedPredictor, _Pixels):
    """As :class:`TimedPredictor`, without reuse of features."""


@dataclass(frozen=True)
class Variant:
    """One way to run; ``kind`` is one of KINDS."""

    clip_length: int
    reuse: bool
    kind: str = 'as asked'


@dataclass(frozen=True)
class Timing:
    """Seconds a frame, one round: of the whole video and of the network alone."""

    video: float
    network: float


KINDS = ('as asked', 'bfloat16', 'compiled')


@contextmanager
def as_kind(model: BaseVIS, kind: str) -> Iterator[None]:
    """Lets the model run in bfloat16, or compiled, inside."""
    if kind == 'bfloat16':
        with torch.autocast(torch.device(model.data_preprocessor.device).type, torch.bfloat16):
            yield
    elif kind == 'compiled':
        owners = ((model.student, 'encode_frames'), (model.student.track_head, 'decode'))
        for owner, name in owners:
            # what is compiled once is found again
            compiled = COMPILED.setdefault((id(owner), name), torch.compile(getattr(owner, name)))
            setattr(owner, name, compiled)
        try:
            yield
        finally:
            for owner, name in owners:
                delattr(owner, name)
    else:
        yield


CLOCKS: list[Callable[[Any], float]] = [measuring.now]


def clock(device: Any) -> float:
    """Seconds, by the clock that was asked for."""
    return CLOCKS[0](device)


COMPILED: dict[tuple[int, str], Any] = {}


def run_once(model: BaseVIS, variant: Variant, frames: Sequence[np.ndarray]) -> Timing:
    """Predicts the video once."""
    cls = TimedPredictor if variant.reuse else TimedAnewPredictor
    settings = {**model.test_cfg, 'clip_length': variant.clip_length, 'clip_stride': 1}
    predictor = cls(model, **settings)
    device = model.data_preprocessor.device
    with as_kind(model, variant.kind):
        began = clock(device)
        predictor(frames, ori_shape=frames[0].shape[:2])
        return Timing((clock(device) - began) / len(frames), predictor.seconds)


def measure(
    model: BaseVIS,
    frames: Sequence[np.ndarray],
    clip_lengths: Sequence[int],
    rounds: int,
    beside: Sequence[str] = (),
) -> dict[Variant, list[Timing]]:
    """Runs all variants turn about, after one of each to warm up.

    Args:
        model: in eval mode.
        frames: (H, W, 3) uint8.
        clip_lengths: each is run with and without reuse.
        rounds: how often each variant is timed.
        beside: further kinds in which the longest clips are timed, with reuse.
    """
    variants = [Variant(length, reuse) for length in clip_lengths for reuse in (True, False)]
    variants += [Variant(max(clip_lengths), True, kind) for kind in beside]
    timings: dict[Variant, list[Timing]] = {variant: [] for variant in variants}
    for variant in variants:
        run_once(model, variant, frames[: variant.clip_length + 1])
    for number in range(rounds):
        # each variant comes first as often as last
        for variant in variants if number % 2 else variants[::-1]:
            timings[variant].append(run_once(model, variant, frames))
    return timings


def relative(timings: dict[Variant, list[Timing]], variant: Variant) -> float:
    """Network seconds of a variant over those of the shortest clips with reuse, median."""
    base = timings[Variant(min(v.clip_length for v in timings), True)]
    return statistics.median(a.network / b.network for a, b in zip(timings[variant], base))


def ratios(timings: dict[Variant, list[Timing]], clip_length: int, part: str) -> list[float]:
    """How many times faster reuse is, one figure a round; ``part`` is a field of Timing."""
    reused, anew = (timings[Variant(clip_length, reuse)] for reuse in (True, False))
    return [getattr(slow, part) / getattr(fast, part) for fast, slow in zip(reused, anew)]


def difference(model: BaseVIS, frames: Sequence[np.ndarray], clip_length: int) -> float:
    """Largest difference of a mask logit between both ways, relative to the largest logit."""
    settings = {**model.test_cfg, 'clip_length': clip_length, 'clip_stride': 1}
    with torch.no_grad():
        reused, anew = (
            list(cls(model, **settings).clips(frames)) for cls in (VideoPredictor, _Pixels)
        )
    pairs = [(a.prediction.mask_logits, b.prediction.mask_logits) for a, b in zip(reused, anew)]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def peak_memory(
    model: BaseVIS, frames: Sequence[np.ndarray], clip_length: int
) -> tuple[float, float] | None:
    """MiB of a GPU that clips with reuse take beyond the model, and its own; ``None`` elsewhere."""
    device = torch.device(model.data_preprocessor.device)
    if device.type != 'cuda':
        return None
    variant = Variant(clip_length, True)
    return measuring.extra_peak(lambda: run_once(model, variant, frames), device)


def final_difference(
    model: BaseVIS, frames: Sequence[np.ndarray], clip_length: int
) -> tuple[int, float, float]:
    """Compares the outcome of a whole video, behind tracker and scores, of both ways.

    Returns:
        Tracks that only one way reports, the largest difference of a score, and the share of the
        pixels of all reported masks that differ.
    """
    settings = {**model.test_cfg, 'clip_length': clip_length, 'clip_stride': 1}
    reused, anew = (
        _by_track(cls(model, **settings)(frames, ori_shape=frames[0].shape[:2]))
        for cls in (VideoPredictor, _Pixels)
    )
    both = reused.keys() & anew.keys()
    scores = [abs(reused[key][0] - anew[key][0]) for key in both]
    pairs = [
        pair for key in both for pair in zip(reused[key][1], anew[key][1], strict=True) if any(pair)
    ]
    empty = mask_api.encode(np.zeros(frames[0].shape[:2], np.uint8, order='F'))
    shared = [
        [mask_api.area(mask_api.merge([a or empty, b or empty], intersect)) for intersect in (1, 0)]
        for a, b in pairs
    ]
    intersection, union = np.sum(shared or [[1, 1]], axis=0)
    return (
        len(reused.keys() ^ anew.keys()),
        max(scores, default=0.0),
        float(1 - intersection / union),
    )


def _by_track(prediction: VideoPrediction) -> dict[tuple[int, int], tuple[float, list[Any]]]:
    keys = zip(prediction.track_ids.tolist(), prediction.labels.tolist())
    return dict(zip(keys, zip(prediction.scores.tolist(), prediction.segmentations)))


def to_table(timings: dict[Variant, list[Timing]], title: str) -> Table:
    """Median frames a second of each variant, and the ratios with their range."""
    table = Table(title=title)
    for column in ('clip length', 'features'):
        table.add_column(column)
    for column in ('video frames/s', 'network frames/s', 'video ratio', 'network ratio', 'cost'):
        table.add_column(column, justify='right')

    def fps(variant: Variant, part: str) -> str:
        return f'{1 / statistics.median(getattr(t, part) for t in timings[variant]):.2f}'

    def ratio(length: int, part: str) -> str:
        values = ratios(timings, length, part)
        return f'{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})'

    for length in sorted({variant.clip_length for variant in timings}):
        for variant in (v for v in sorted(timings, key=str) if v.clip_length == length):
            reuse = variant.reuse and variant.kind == KINDS[0]
            shown = [ratio(length, part) if reuse else '' for part in ('video', 'network')]
            table.add_row(
                str(length),
                ('reused' if variant.reuse else 'anew')
                + (f', {variant.kind}' if variant.kind != KINDS[0] else ''),
                *(fps(variant, part) for part in ('video', 'network')),
                *shown,
                f'{relative(timings, variant):.2f}',
            )
    return table


def load_model(args: argparse.Namespace) -> BaseVIS:
    """The config's model in eval mode, with the checkpoint's weights where one is given."""
    cfg = Config.fromfile(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        model = MODELS.build(cfg.model)
    if args.checkpoint:
        load_weights(model, args.checkpoint)
    model = model.to(args.device).eval()
    if args.compile:
        model.student.encode_frames = torch.compile(model.student.encode_frames)
        model.student.track_head.decode = torch.compile(model.student.track_head.decode)
    return model


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--size', type=int, nargs=2, default=(360, 640), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=20, help='of the video')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--clip-lengths', type=int, nargs='+', default=(1, 3))
    measuring.add_arguments(parser)
    parser.add_argument('--amp', action='store_true', help='autocast to bfloat16')
    parser.add_argument('--compile', action='store_true', help='use torch.compile')
    parser.add_argument('--beside', nargs='+', choices=KINDS[1:], default=(), help='see above')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    parser.add_argument('--cpu-time', action='store_true', help='count seconds of CPU')
    args = parser.parse_args(argv)
    if args.cpu_time and torch.device(args.device).type != 'cpu':
        parser.error('--cpu-time is for --device cpu')
    if min(args.frames, args.rounds, *args.clip_lengths) < 1:
        parser.error('--frames, --rounds and --clip-lengths must be positive')
    if min(args.size) < 32:
        parser.error('--size must be at least 32 32')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Builds, runs and prints."""
    args = parse_args(argv)
    measuring.prepare(args.device)
    CLOCKS[:] = [(lambda _: time.process_time()) if args.cpu_time else measuring.now]
    try:
        model = load_model(args)
    except (OSError, ValueError) as error:
        sys.exit(f'benchmark_fps.py: error: {error}')
    clip = random_clip(args.frames, tuple(args.size), 1, 1, with_masks=False)
    frames = [frame.permute(1, 2, 0).numpy() for frame in clip['inputs'][0]]
    with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.amp):
        timings = measure(model, frames, args.clip_lengths, args.rounds, args.beside)
    height, width = model.data_preprocessor.padded_size(*args.size)
    title = (
        f'{args.config}: {args.frames} frames of {args.size[0]}x{args.size[1]}, padded to '
        f'{height}x{width}, stride 1, {measuring.describe(args.device)}, median of {args.rounds}'
        f'{", of CPU" if args.cpu_time else ""}'
        f'{", bfloat16" if args.amp else ""}{", compiled" if args.compile else ""}'
    )
    Console(width=110).print(to_table(timings, title))
    differences = {n: difference(model, frames[: n + 1], n) for n in args.clip_lengths}
    for length, found in differences.items():
        print(f'clips of {length}: mask logits of both ways differ by {found:.0e} of the largest')
    outcomes = {n: final_difference(model, frames, n) for n in args.clip_lengths}
    for length, (single, score, pixels) in outcomes.items():
        print(
            f'clips of {length}, whole video: {single} tracks differ, scores by {score:.0e} at '
            f'most, {100 * pixels:.4f} % of the pixels of the masks'
        )
    figures = dict(
        differences=differences,
        outcomes=outcomes,
        rounds=[
            dict(
                **asdict(variant),
                video=[t.video for t in times],
                network=[t.network for t in times],
            )
            for variant, times in timings.items()
        ],
    )
    memory = peak_memory(model, frames[: max(args.clip_lengths)], max(args.clip_lengths))
    if memory is not None:
        figures['peak_mib_and_model'] = memory
        print(
            f'clips of {max(args.clip_lengths)}, reused: at most {memory[0]:.0f} MiB of the GPU '
            f'beyond the {memory[1]:.0f} of the model'
        )
    measuring.write_json(args, figures)
    if not args.checkpoint:
        print('no checkpoint: the masks are noise, quote the network alone')
    return 0


if __name__ == '__main__':
    sys.exit(main())
