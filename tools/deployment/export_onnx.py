"""Exports a model to ONNX: one file for a frame, one for a clip.

    python tools/deployment/export_onnx.py CONFIG [CHECKPOINT] --out FOLDER [--size 384 640]
        [--clip-length 3] [--rounds 5]

``frame.onnx``, once a frame: ``frame`` (1, 3, H, W) RGB 0-255 to ``mask_embeds`` (1, C, h, w) and
``level_32``, ``level_16``, ``level_8``. ``clip.onnx``, once a clip: the same four tensors of T
frames, joined along the first axis, to ``cls_logits`` (Q, K+1), ``mask_logits`` (Q, T, h, w) and
``embeds`` (Q, C), which a tracker takes. Sizes are fixed: H and W multiples of 32, and T.

Smaller frames are padded to H and W at the right and the bottom with the mean of the model's
preprocessor, R 123.675, G 116.28, B 103.53 as a rule: the model pads with 0 after it has
normalised. Black is another picture to it.

Both files are then run with onnxruntime on a random clip, ``frame.onnx`` also on a frame padded
so, and compared with torch, the padded frame with the model's own padding; the program fails
where they differ by more than 1e-3, relative to the largest value of an output. The table
also gives the time of both runtimes on as many threads, turn about. Needs the extra
``mmboxvis[onnx]``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.registry import DefaultScope
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.apis import load_weights
from mmboxvis.files import whole_file
from mmboxvis.models.vis import BaseVIS
from mmboxvis.registry import MODELS
from mmboxvis.structures import FrameFeatures

FEATURES = ('mask_embeds', 'level_32', 'level_16', 'level_8')
PREDICTIONS = ('cls_logits', 'mask_logits', 'embeds')
TOLERANCE = 1e-3


class FramePart(nn.Module):
    """Normalisation, backbone and pixel decoder."""

    def __init__(self, model: BaseVIS) -> None:
        super().__init__()
        self.network, self.preprocessor = model.student, model.data_preprocessor

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """(1, 3, H, W) RGB 0-255 to :data:`FEATURES`."""
        features = self.network.encode_frames(self.preprocessor.normalize(frame))
        return features.mask_embeds, *features.multi_scale

    def padded(self, frame: Tensor, size: tuple[int, int]) -> Tensor:
        """(3, h, w) RGB 0-255 to (1, 3, H, W), with the mean at the right and the bottom."""
        filled = self.preprocessor.mean.expand(3, *size).clone()
        filled[:, : frame.shape[-2], : frame.shape[-1]] = frame
        return filled[None]


class ClipPart(nn.Module):
    """Query decoder, last layer."""

    def __init__(self, model: BaseVIS) -> None:
        super().__init__()
        self.head = model.student.track_head

    def forward(self, mask_embeds: Tensor, *levels: Tensor) -> tuple[Tensor, ...]:
        """:data:`FEATURES` of T frames to :data:`PREDICTIONS`."""
        # the features before the mask embedding serve training alone
        features = FrameFeatures(mask_embeds, mask_embeds, levels)
        prediction = self.head(features, len(mask_embeds), last_only=True)[-1].clip(0)
        return tuple(getattr(prediction, name) for name in PREDICTIONS)


def export(
    part: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[Sequence[str], Sequence[str]],
    path: Path,
) -> None:
    """Writes one part as an ONNX file, whole or not at all.

    Args:
        part: in eval mode.
        inputs: of the shapes to export for.
        names: of the inputs and the outputs.
        path: of the file.
    """
    with torch.no_grad():
        program = torch.onnx.export(
            part,
            inputs,
            dynamo=True,
            opset_version=20,
            input_names=list(names[0]),
            output_names=list(names[1]),
            verbose=False,
        )
    with whole_file(path) as temporary:
        program.save(str(temporary))


def session(path: Path, num_threads: int) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    return onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def run_onnx(runner: Any, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of a session, in order."""
    names = [node.name for node in runner.get_inputs()]
    feed = dict(zip(names, (x.numpy() for x in inputs), strict=True))
    return [torch.from_numpy(np.asarray(out)) for out in runner.run(None, feed)]


def difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Largest difference of any output relative to that output's largest magnitude."""
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
        for one, other in zip(found, wanted, strict=True)
    )


def padding_difference(part: FramePart, runner: Any, frame: Tensor) -> float:
    """:func:`difference` of a smaller frame: padded with the mean, and as the model pads it.

    Args:
        part: of the model.
        runner: of ``frame.onnx``.
        frame: (3, H, W) of its size, a part of which is taken.
    """
    size = (frame.shape[-2], frame.shape[-1])
    small = frame[:, : size[0] - 9, : size[1] - 18]
    features = part.network.encode_frames(part.preprocessor.frame(small.flip(0)))
    found = run_onnx(runner, (part.padded(small, size),))
    return difference(found, (features.mask_embeds, *features.multi_scale))


def turn_about(work: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Median seconds of each."""
    seconds: list[list[float]] = [[] for _ in work]
    for _ in range(rounds):
        for task, times in zip(work, seconds):
            began = time.perf_counter()
            task()
            times.append(time.perf_counter() - began)
    return [statistics.median(times) for times in seconds]


@torch.no_grad()
def export_and_check(
    model: BaseVIS, folder: Path, size: tuple[int, int], clip_length: int, rounds: int
) -> list[tuple[str, float, float, float]]:
    """Exports both parts and runs them beside torch.

    Args:
        model: in eval mode, on the CPU.
        folder: for ``frame.onnx`` and ``clip.onnx``.
        size: (H, W), multiples of 32.
        clip_length: T.
        rounds: of the timing.

    Returns:
        For each part its name, the difference, and the seconds of torch and of onnxruntime.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(clip_length, 3, size[0] // 16, size[1] // 16, generator=generator)
    frames = 255 * nn.functional.interpolate(coarse, size, mode='bilinear')
    parts: tuple[nn.Module, nn.Module] = FramePart(model), ClipPart(model)
    features = [parts[0](frame[None]) for frame in frames]
    inputs = ((frames[:1],), tuple(torch.cat(same) for same in zip(*features)))
    names = ((('frame',), FEATURES), (FEATURES, PREDICTIONS))
    rows = []
    for name, part, given, labels in zip(('frame', 'clip'), parts, inputs, names):
        path = folder / f'{name}.onnx'
        export(part.eval(), given, labels, path)
        runner = session(path, torch.get_num_threads())
        error = difference(run_onnx(runner, given), part(*given))
        if isinstance(part, FramePart):
            error = max(error, padding_difference(part, runner, frames[0]))
        work = (lambda p=part, x=given: p(*x), lambda r=runner, x=given: run_onnx(r, x))
        rows.append((name, error, *turn_about(work, rounds)))
    return rows


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint', nargs='?', help='random weights without one')
    parser.add_argument('--out', type=Path, required=True, help='folder')
    parser.add_argument('--size', type=int, nargs=2, default=(384, 640), metavar=('H', 'W'))
    parser.add_argument('--clip-length', type=int, default=3)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if min(args.size) < 32 or args.size[0] % 32 or args.size[1] % 32:
        parser.error(
            '--size must be multiples of 32: smaller frames are padded to it, at the right and '
            'the bottom, with the mean of the preprocessor (123.675 116.28 103.53 as a rule)'
        )
    if min(args.clip_length, args.rounds) < 1:
        parser.error('--clip-length and --rounds must be positive')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exports, checks and prints."""
    args = parse_args(argv)
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        print(f"{error}: pip install 'mmboxvis[onnx]'", file=sys.stderr)
        return 1
    with one_line_errors('export_onnx.py'):
        cfg = read_config(args.config, args.cfg_options)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        model = MODELS.build(cfg.model).eval()
    if args.checkpoint:
        try:
            load_weights(model, args.checkpoint)
        except (OSError, ValueError) as error:
            sys.exit(f'export_onnx.py: error: {error}')
    rows = export_and_check(model, args.out, tuple(args.size), args.clip_length, args.rounds)
    table = Table(
        title=f'{args.config}: {args.size[0]}x{args.size[1]}, clips of {args.clip_length}, '
        f'{torch.get_num_threads()} threads, median of {args.rounds}'
    )
    for heading in ('file', 'difference', 'torch s', 'onnxruntime s', 'times faster'):
        table.add_column(heading, justify='right')
    for name, error, eager, onnx_seconds in rows:
        table.add_row(
            f'{name}.onnx',
            f'{error:.0e}',
            f'{eager:.3f}',
            f'{onnx_seconds:.3f}',
            f'{eager / onnx_seconds:.2f}',
        )
    Console(width=100).print(table)
    worst = max(error for _, error, *_ in rows)
    if worst > TOLERANCE:
        print(
            f'torch and onnxruntime differ by {worst:.1e}, more than {TOLERANCE}', file=sys.stderr
        )
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
