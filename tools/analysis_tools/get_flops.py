"""Parameters and FLOPs of a model, part by part: backbone, pixel decoder, query decoder, head.

    python tools/analysis_tools/get_flops.py CONFIG [--size 360 640] [--frames 3]

A multiplication with its addition counts as 2 FLOPs. Counted are matrix products, convolutions,
and the sampling of the deformable attention; norms, activations, softmax, interpolation and other
work per element are not. Nothing is trained or loaded: the numbers depend on shapes alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from mmengine.config import DictAction
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.models.vis import ClipNetwork
from mmboxvis.registry import MODELS
from mmboxvis.structures import FrameFeatures

PARTS = ('backbone', 'pixel decoder', 'query decoder', 'class and mask head')
"""In the order in which a clip passes them; the first two work frame by frame, the third projects
keys and values frame by frame."""


@dataclass(frozen=True)
class Complexity:
    """What the parts of a network cost; every dict has the keys :data:`PARTS`.

    Attributes:
        parameters: number of parameters.
        frame: FLOPs of one frame in the parts that work frame by frame, 0 in the others.
        clip: FLOPs of one clip in the parts that work clip by clip, 0 in the others.
        num_frames: T, frames of a clip.
        size: (H, W) of a frame as the network gets it, padded.
    """

    parameters: dict[str, int]
    frame: dict[str, int]
    clip: dict[str, int]
    num_frames: int
    size: tuple[int, int]

    def per_clip(self, part: str) -> int:
        """FLOPs of a clip on its own, as in training: all T frames are encoded for it."""
        return self.frame[part] * self.num_frames + self.clip[part]

    def per_video_frame(self, part: str, clip_stride: int) -> float:
        """FLOPs a frame of a long video, where each is encoded once and clips share it."""
        return self.frame[part] + self.clip[part] / clip_stride


def sampling_flops(
    rows_shape: Sequence[int], bags_shape: Sequence[int], *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """FLOPs of the embedding bags inside the deformable attention.

    A sample is a weighted sum of four rows: four multiplications with their additions a channel.
    """
    return 2 * prod(bags_shape) * rows_shape[1]


def attention_flops(
    query_shape: Sequence[int], key_shape: Sequence[int], *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """FLOPs of the fused attention of the CPU, which torch's counter does not know."""
    return 2 * 2 * prod(query_shape) * key_shape[-2]


def count_flops(work: Callable[[], Any]) -> tuple[FlopCounterMode, Any]:
    """Runs ``work`` without gradient and counts; returns the counter and the result."""
    # elsewhere no embedding bag is summed during a forward pass
    operations = {
        torch.ops.aten._embedding_bag_forward_only: sampling_flops,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    }
    counter = FlopCounterMode(display=False, custom_mapping=operations)
    with torch.no_grad(), counter:
        result = work()
    return counter, result


def count_parameters(network: ClipNetwork) -> dict[str, int]:
    """Parameters of each part, frozen ones included."""

    def number(*modules: torch.nn.Module) -> int:
        return sum(p.numel() for module in modules for p in module.parameters())

    head = network.track_head
    pixel, output = number(head.pixel_decoder), number(head.cls_embed, head.mask_embed)
    counts = (number(network.backbone), pixel, number(head) - pixel - output, output)
    return dict(zip(PARTS, counts))


def measure(network: ClipNetwork, size: tuple[int, int], num_frames: int) -> Complexity:
    """Counts one frame as far as it goes on its own, and one clip through the rest.

    Args:
        network: in eval mode, on the CPU, where the deformable attention is made of operations
            that can be counted; frozen, because the counter stumbles over a view of a parameter
            that wants a gradient.
        size: (H, W), multiples of 32.
        num_frames: T.
    """
    frame = torch.zeros(1, 3, *size)
    head = network.track_head
    backbone, maps = count_flops(lambda: network.backbone(frame))
    pixel, features = count_flops(lambda: head.encode_frames(maps))
    projection, _ = count_flops(lambda: head.decoder_inputs(features))
    clip_features = FrameFeatures.cat([features] * num_frames)
    clip, _ = count_flops(lambda: head(clip_features, num_frames, last_only=True))
    by_module = clip.get_flop_counts()
    name = type(head).__name__
    decoder = sum(
        sum(by_module[f'{name}.transformer_decoder.layers.{i}'].values())
        for i in range(len(head.transformer_decoder.layers))
    )
    frame = [x.get_total_flops() for x in (backbone, pixel, projection)]
    output = clip.get_total_flops() - num_frames * frame[2] - decoder
    return Complexity(
        parameters=count_parameters(network),
        frame=dict(zip(PARTS, (*frame, 0))),
        clip=dict(zip(PARTS, (0, 0, decoder, output))),
        num_frames=num_frames,
        size=size,
    )


def to_table(cost: Complexity, title: str, clip_stride: int) -> Table:
    """The figures of all parts and their sums."""
    table = Table(title=title)
    table.add_column('part')
    for column in (
        'parameters (M)',
        'GFLOPs a frame',
        f'GFLOPs a clip of {cost.num_frames}',
        f'GFLOPs a video frame, stride {clip_stride}',
    ):
        table.add_column(column, justify='right')
    table.add_column('share', justify='right')

    columns: list[Callable[[str], float]] = [
        lambda part: cost.parameters[part] / 1e6,
        lambda part: cost.frame[part] / 1e9,
        lambda part: cost.per_clip(part) / 1e9,
        lambda part: cost.per_video_frame(part, clip_stride) / 1e9,
    ]
    total = sum(map(columns[-1], PARTS))
    for part in PARTS:
        share = columns[-1](part) / total
        table.add_row(part, *(f'{column(part):.3f}' for column in columns), f'{share:.1%}')
    table.add_section()
    table.add_row('all', *(f'{sum(map(column, PARTS)):.3f}' for column in columns), '')
    return table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('--size', type=int, nargs=2, default=(360, 640), metavar=('H', 'W'))
    parser.add_argument(
        '--frames', type=int, help="of a clip; the config's clip_length if left out"
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    if min(args.size) < 1 or (args.frames is not None and args.frames < 1):
        parser.error('--size and --frames must be positive')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Builds the network, counts and prints."""
    args = parse_args(argv)
    with one_line_errors('get_flops.py'):
        cfg = read_config(args.config, args.cfg_options)
    if 'network' not in cfg.get('model', {}):
        print(f'error: {args.config} defines no model with a network', file=sys.stderr)
        return 1
    test_cfg = cfg.model.get('test_cfg') or {}
    num_frames = args.frames or test_cfg.get('clip_length', 3)
    clip_stride = min(test_cfg.get('clip_stride', 1), num_frames)
    # a whole model would build the teacher as well
    network = MODELS.build({**cfg.model.network, '_scope_': 'mmboxvis'})
    network.eval().requires_grad_(False)
    preprocessor = MODELS.build(
        {'type': 'ClipDataPreprocessor', **cfg.model.get('data_preprocessor', {})}
    )
    size = preprocessor.padded_size(*args.size)
    cost = measure(network, size, num_frames)
    title = f'{args.config}: {args.size[0]}x{args.size[1]}, padded to {size[0]}x{size[1]}'
    Console(width=110).print(to_table(cost, title, clip_stride))
    print(
        'a multiplication with its addition is 2 FLOPs; matrix products, convolutions and the '
        'sampling of the\ndeformable attention are counted, work per element is not. A frame is '
        'encoded once a video, however\nmany clips it is in; the decoder runs once a clip.'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
