"""What the losses keep for the gradient, all at once and a few instances at a time.

    python tools/analysis_tools/loss_memory.py [CONFIG] [--objects 8 32 64] [--at-once 8]

Random predictions and boxes go through the criterion of the config, every pseudo mask supervising.
*kept* is the size of what autograd holds between forward and backward pass, beyond what goes into
the criterion: a count of tensors, the same on every device. Seconds are of forward and backward.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import mmboxvis.models.heads  # noqa: F401  registers the criterion
from mmboxvis._cli import one_line_errors, read_config
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, ClipTargets, PseudoMasks
from tools.analysis_tools import measuring
from tools.analysis_tools.profile_step import random_clip


class Kept:
    """Counts the bytes of the storages that autograd keeps, each once, without known ones."""

    def __init__(self, known: list[Tensor]) -> None:
        self.bytes = 0
        self._seen = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._alive: list[Tensor] = []  # or an address could come up again

    def pack(self, tensor: Tensor) -> Tensor:
        """Called by autograd for what it keeps."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self._alive.append(tensor.detach())
            self.bytes += storage.nbytes()
        return tensor


def make_inputs(args: argparse.Namespace, count: int, num_classes: int) -> tuple[Any, ...]:
    """Predictions of all layers, a target, its pseudo masks, colours and features, of one clip."""
    height, width = args.size
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    clip = random_clip(args.frames, tuple(args.size), count, num_classes, False)
    target = ClipTargets.from_data_sample(clip['data_samples'][0], tuple(args.size))
    mask_map = draw(1, 256, args.frames * height * width // 16).requires_grad_()
    features = draw(1, args.frames, 256, height // 4, width // 4)
    predictions = []
    for _ in range(args.layers):
        vectors = draw(1, 100, 256).requires_grad_()
        with torch.no_grad():
            logits = vectors @ mask_map
        predictions.append(
            ClipPredictions(
                draw(1, 100, num_classes + 1).requires_grad_(),
                logits.unflatten(-1, (args.frames, height // 4, width // 4)),
                vectors,
                features,
                vectors,
                mask_map,
            )
        )
    pseudo = PseudoMasks(torch.arange(count), torch.ones(count), target.box_masks / 2)
    return predictions, target, pseudo, rgb_to_lab(clip['inputs'][0]), features[0]


def measure(
    criterion: Any, args: argparse.Namespace, count: int, num_classes: int
) -> tuple[float, float]:
    """MiB kept and seconds."""
    inputs = make_inputs(args, count, num_classes)
    predictions, target, pseudo, lab, features = inputs
    pairs = criterion.loss_pair.build_pairs(lab, features, target.boxes, target.box_masks)
    known = [value for layer in predictions for value in vars(layer).values() if value is not None]
    kept = Kept([*known, target.box_masks, pseudo.masks, lab, features])
    began = measuring.now('cpu')
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        losses = criterion(predictions, [target], [pseudo], [pairs], 0.5)
    forward = measuring.now('cpu') - began
    total = sum(value for name, value in losses.items() if 'loss' in name)
    began = measuring.now('cpu')
    total.backward()
    return kept.bytes / 2**20, forward + measuring.now('cpu') - began


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / 'configs/boxvis/boxvis_r50_8xb2-15k_ytvis21.py'
    parser.add_argument('config', nargs='?', default=str(default))
    parser.add_argument('--size', type=int, nargs=2, default=(384, 640), metavar=('H', 'W'))
    parser.add_argument('--frames', type=int, default=3)
    parser.add_argument('--layers', type=int, default=10)
    parser.add_argument('--objects', type=int, nargs='+', default=(8, 32, 64))
    parser.add_argument('--at-once', type=int, default=8, help='instances_at_once')
    return parser.parse_args()


def main() -> None:
    """Measures and prints."""
    args = parse_args()
    with one_line_errors('loss_memory.py'):
        cfg = read_config(args.config)
    num_classes = cfg.model.network.track_head.num_classes
    table = Table('objects', 'at a time', 'kept, MiB', 'seconds')
    table.title = f'{args.layers} layers, {args.frames} x {args.size[0]} x {args.size[1]}'
    for count in args.objects:
        for at_once in (None, args.at_once):
            criterion = MODELS.build(dict(cfg.model.criterion, instances_at_once=at_once))
            kept, seconds = measure(criterion, args, count, num_classes)
            table.add_row(str(count), str(at_once or 'all'), f'{kept:.0f}', f'{seconds:.2f}')
    Console(width=100).print(table)


if __name__ == '__main__':
    main()
