r"""Counts how many of the pairs that STPA keeps are right, against true masks.

    python tools/analysis_tools/analyze_pairs.py CONFIG [--checkpoint CKPT] \
        --thresholds 0.3 0.1 --dilations 4 2

CONFIG has to load masks, as the pixel-supervised twins do; the masks only judge. A pair is right
where both points are of the object or both are not. For spatial and temporal neighbours the table
shows the share that is kept of all pairs within the object, of all outside it, and of those that
cross its border, and how many of the kept pairs are right. A loss needs both: pairs across the
border pull the mask over it, and where hardly any pair is kept, nothing fills it.

Without a checkpoint pairs are chosen by colour alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mmboxvis.models.losses import STPALoss
from mmboxvis.models.losses.functional import resize_to_nodes, rgb_to_lab
from mmboxvis.registry import DATASETS, MODELS
from mmboxvis.structures import AffinityPairs, ClipTargets

KINDS = ('object', 'outside', 'across')
ANY = -10.0  # a threshold that keeps every pair


@dataclass(frozen=True)
class Clip:
    """What pairs are built from, and the masks that judge them."""

    lab: Tensor
    features: Tensor | None
    targets: ClipTargets


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('--checkpoint', help='weights whose features are compared beside colours')
    parser.add_argument('--thresholds', type=float, nargs='+', default=[0.3, 0.1, 0.05, 0.02])
    parser.add_argument('--dilations', type=int, nargs='+', default=[4, 2])
    parser.add_argument('--num', type=int, default=50, help='clips (default: 50)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def count_kinds(pairs: AffinityPairs, masks: Tensor) -> Tensor:
    """Counts pairs by neighbour and by what the true masks say.

    Args:
        pairs: of one clip.
        masks: (N, T, H, W) true masks.

    Returns:
        (neighbours, 3) int64: both points on the object, both outside it, one of each.
    """
    inside = resize_to_nodes(masks, pairs.working_size, pairs.stride) > 0.5
    at_node = inside.flatten()[pairs.nodes]
    first, second = at_node[pairs.first], at_node[pairs.second]
    kind = torch.where(first == second, (~first).long(), 2)
    bins = pairs.neighbor_inds.long() * len(KINDS) + kind
    counts = torch.bincount(bins, minlength=len(pairs.offsets) * len(KINDS))
    return counts.view(-1, len(KINDS))


class Counter:
    """Counts over clips for each setting.

    Args:
        dilations: distances of neighbours.
        thresholds: of the colour similarity.
        use_features: whether features are compared too.
    """

    def __init__(
        self, dilations: Sequence[int], thresholds: Sequence[float], use_features: bool
    ) -> None:
        self.losses = {
            (dilation, threshold): STPALoss(
                dilation=dilation,
                color_thr=threshold,
                use_patch_corr=use_features and threshold != ANY,
            )
            for dilation in dilations
            for threshold in (ANY, *thresholds)
        }
        self.counts: dict[tuple[int, float], Tensor] = {}

    def add(self, clip: Clip) -> None:
        """Counts one clip."""
        masks = clip.targets.masks
        if masks is None:
            raise ValueError('the config loads no masks; take that of a pixel-supervised twin')
        for setting, loss in self.losses.items():
            pairs = loss.build_pairs(
                clip.lab, clip.features, clip.targets.boxes, clip.targets.box_masks
            )
            counts = count_kinds(pairs, masks)
            self.counts[setting] = self.counts.get(setting, torch.zeros_like(counts)) + counts

    def rows(self) -> list[dict[str, Any]]:
        """One row a dilation, threshold and direction (spatial or temporal)."""
        rows = []
        for (dilation, threshold), kept in self.counts.items():
            if threshold == ANY:
                continue
            temporal = torch.tensor([dt > 0 for dt, _, _ in self.losses[dilation, ANY].offsets])
            for name, chosen in (('spatial', ~temporal), ('temporal', temporal)):
                some = kept[chosen].sum(0)
                every = self.counts[dilation, ANY][chosen].sum(0)
                shares = (some / every.clamp(min=1)).tolist()
                right = float(1 - some[2] / some.sum().clamp(min=1))
                rows.append(
                    dict(dilation=dilation, threshold=threshold, pairs=name, right=right)
                    | dict(zip(KINDS, shares))
                )
        return rows


def load_clips(cfg: Config, checkpoint: str | None, number: int, seed: int) -> Any:
    """Yields clips as they enter the network, drawn with ``seed``."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    model: Any = None
    if checkpoint is not None:
        model = MODELS.build(cfg.model).eval()
        load_checkpoint(model, checkpoint, map_location='cpu')
    rng = np.random.default_rng(seed)
    np.random.seed(seed)
    for index in rng.choice(len(dataset), min(number, len(dataset)), replace=False):
        batch = preprocessor(pseudo_collate([dataset[int(index)]]), True)
        rgb, [sample] = batch['rgb'][0], batch['data_samples']
        features = None
        if model is not None:
            features = model.student(batch['inputs'], last_only=True)[-1].mask_features[0]
        targets = ClipTargets.from_data_sample(sample, (rgb.shape[-2], rgb.shape[-1]))
        yield Clip(rgb_to_lab(rgb), features, targets)


def render(rows: Sequence[dict[str, Any]]) -> Table:
    """Draws the table, in percent."""
    table = Table(title='Pairs kept, and how many of them are right (%)', title_justify='left')
    for name in ('dilation', 'threshold', 'pairs', *(f'kept, {kind}' for kind in KINDS), 'right'):
        table.add_column(name, justify='right')
    for row in rows:
        values = [f'{100 * row[kind]:.1f}' for kind in KINDS]
        head = (str(row['dilation']), f'{row["threshold"]:g}', row['pairs'])
        table.add_row(*head, *values, f'{100 * row["right"]:.2f}')
    return table


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    args = parse_args(argv)
    init_default_scope('mmboxvis')
    try:
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        counter = Counter(args.dilations, args.thresholds, args.checkpoint is not None)
        clips = load_clips(cfg, args.checkpoint, args.num, args.seed)
        for clip in track(clips, 'clips', total=args.num):
            counter.add(clip)
    except (OSError, ValueError) as error:
        sys.exit(f'analyze_pairs.py: error: {error}')
    Console().print(render(counter.rows()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
