r"""Counts how many of the pairs that STPA keeps are right, against true masks.

    python tools/analysis_tools/analyze_pairs.py CONFIG [--checkpoint CKPT] \
        --thresholds 0.3 0.1 --dilations 4 2

CONFIG has to load masks, as the pixel-supervised twins do; the masks only judge. A pair is right
where both points are of the object or both are not. For spatial and temporal neighbours the table
shows the share that is kept of all pairs within the object, of all outside it, and of those that
cross its border, and how many of the kept pairs are right. A loss needs both: pairs across the
border pull the mask over it, and where hardly any pair is kept, nothing fills it.

Without a checkpoint pairs are chosen by colour alone. ``--without-shift`` adds rows, called *no
shift*, whose temporal neighbours do not follow the centre of the box; what that costs shows with
objects that move: ``--min-speed 0.25`` counts those alone whose box moves by a quarter of its size
from a frame of the clip to the next.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mmboxvis.apis import load_weights
from mmboxvis.models.losses import STPALoss
from mmboxvis.models.losses.functional import resize_to_nodes, rgb_to_lab
from mmboxvis.registry import DATASETS, MODELS
from mmboxvis.structures import AffinityPairs, ClipTargets

KINDS = ('object', 'outside', 'across')
ANY = -10.0  # a threshold that keeps every pair


@dataclass(frozen=True)
class Clip:
    """What pairs are built from, the masks that judge them, and what is needed to draw them."""

    lab: Tensor
    features: Tensor | None
    targets: ClipTargets
    rgb: Tensor | None = None
    class_names: Sequence[str] = ()
    inputs: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the padded frames."""
        return int(self.lab.shape[-2]), int(self.lab.shape[-1])

    def speeds(self) -> Tensor:
        """(N,), see :func:`speeds`."""
        return speeds(self.targets.boxes, self.size)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config')
    parser.add_argument('--checkpoint', help='weights whose features are compared beside colours')
    parser.add_argument(
        '--thresholds',
        type=float,
        nargs='+',
        default=[0.3, 0.1, 0.05, 0.02],
        help='least likeness of the colours of a kept pair, 0 to 1 (default: 0.3 0.1 0.05 0.02)',
    )
    parser.add_argument('--dilations', type=int, nargs='+', default=[4, 2])
    parser.add_argument(
        '--without-shift', action='store_true', help='pairs without centre shift as well'
    )
    parser.add_argument(
        '--min-speed', type=float, default=0.0, help='sizes of an object a frame (default: 0)'
    )
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


def speeds(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """How far boxes move from a frame to the next, over the root of their area.

    Args:
        boxes: (N, T, 4) xyxy in 0-1, all zero = absent.
        size: (H, W) of the frames.

    Returns:
        (N,) means over the neighbouring frames that both have the object, 0 without any.
    """
    corners = boxes.unflatten(-1, (2, 2)) * boxes.new_tensor([size[1], size[0]])
    sides = corners[..., 1, :] - corners[..., 0, :]
    roots = sides.prod(-1).sqrt()
    ways = corners.mean(-2).diff(dim=1).norm(dim=-1)
    both = (roots[:, 1:] > 0) & (roots[:, :-1] > 0)
    shares = torch.where(both, ways / roots[:, 1:].clamp(min=1e-6), 0)
    return shares.sum(1) / both.sum(1).clamp(min=1)


class Setting(NamedTuple):
    """What pairs are chosen by."""

    dilation: int
    threshold: float
    shift: bool


class Counter:
    """Counts over clips for each setting.

    Args:
        dilations: distances of neighbours.
        thresholds: of the colour similarity.
        use_features: whether features are compared too.
        shifts: whether temporal neighbours follow the centre of the box.
        min_speed: objects that move less are left out, see :func:`speeds`.
    """

    def __init__(
        self,
        dilations: Sequence[int],
        thresholds: Sequence[float],
        use_features: bool,
        shifts: Sequence[bool] = (True,),
        min_speed: float = 0.0,
    ) -> None:
        self.losses = {
            Setting(dilation, threshold, shift): STPALoss(
                dilation=dilation,
                color_thr=threshold,
                use_patch_corr=use_features and threshold != ANY,
                use_center_shift=shift,
            )
            for dilation in dilations
            for threshold in (ANY, *thresholds)
            for shift in shifts
        }
        self.min_speed = min_speed
        self.num_instances = 0
        self.counts: dict[Setting, Tensor] = {}

    def add(self, clip: Clip) -> None:
        """Counts one clip."""
        masks = clip.targets.masks
        if masks is None:
            raise ValueError('the config loads no masks; take that of a pixel-supervised twin')
        fast = clip.speeds() >= self.min_speed
        boxes, box_masks = clip.targets.boxes[fast], clip.targets.box_masks[fast]
        self.num_instances += len(boxes)
        for setting, loss in self.losses.items():
            pairs = loss.build_pairs(clip.lab, clip.features, boxes, box_masks)
            counts = count_kinds(pairs, masks[fast])
            self.counts[setting] = self.counts.get(setting, torch.zeros_like(counts)) + counts

    def rows(self) -> list[dict[str, Any]]:
        """One row a setting and direction (spatial or temporal).

        ``number`` is of kept pairs an object, ``right`` the share of them that is right.
        """
        rows = []
        for setting, kept in self.counts.items():
            if setting.threshold == ANY:
                continue
            all_pairs = setting._replace(threshold=ANY)
            temporal = torch.tensor([dt > 0 for dt, _, _ in self.losses[all_pairs].offsets])
            for name, chosen in (('spatial', ~temporal), ('temporal', temporal)):
                if name == 'spatial' and not setting.shift:
                    continue  # the same pairs
                some = kept[chosen].sum(0)
                every = self.counts[all_pairs][chosen].sum(0)
                shares = (some / every.clamp(min=1)).tolist()
                head = dict(setting._asdict(), pairs=name, **dict(zip(KINDS, shares)))
                right = float(1 - some[2] / some.sum().clamp(min=1))
                number = float(some.sum()) / max(self.num_instances, 1)
                rows.append({**head, 'number': number, 'right': right})
        return rows


def load_clips(cfg: Config, checkpoint: str | None, number: int, seed: int) -> Iterator[Clip]:
    """Yields clips as they enter the network, drawn with ``seed``.

    Boxes are filled as the model does, and features are the student's of the checkpoint.
    """
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    model: Any = None
    if checkpoint is not None:
        model = MODELS.build(cfg.model).eval()
        load_weights(model, checkpoint)
    rng = np.random.default_rng(seed)
    np.random.seed(seed)
    for index in rng.choice(len(dataset), min(number, len(dataset)), replace=False):
        batch = preprocessor(pseudo_collate([dataset[int(index)]]), True)
        rgb, [sample] = batch['rgb'][0], batch['data_samples']
        features = None
        if model is not None:
            with torch.no_grad():
                prediction = model.student(batch['inputs'], last_only=True)[-1]
            features = prediction.mask_features[0]
        size = (int(rgb.shape[-2]), int(rgb.shape[-1]))
        filling = {name: cfg.model.get(name, False) for name in ('released_boxes', 'box_centers')}
        targets = ClipTargets.from_data_sample(sample, size, **filling)
        classes = dataset.metainfo['classes']
        yield Clip(rgb_to_lab(rgb), features, targets, rgb, classes, batch['inputs'])


def render(rows: Sequence[dict[str, Any]]) -> Table:
    """Draws the table, in percent."""
    table = Table(title='Pairs kept, and how many of them are right (%)', title_justify='left')
    # 80 columns, those of a terminal, have to hold all
    heads = ('dilation', 'colour\nabove', 'pairs', *(f'kept,\n{kind}' for kind in KINDS))
    for name in (*heads, 'right', 'pairs an\nobject'):
        table.add_column(name, justify='right', no_wrap=True)
    for row in rows:
        values = [f'{100 * row[kind]:.1f}' for kind in KINDS]
        pairs = row['pairs'] if row['shift'] else 'no shift'
        head = (str(row['dilation']), f'{row["threshold"]:g}', pairs)
        table.add_row(*head, *values, f'{100 * row["right"]:.2f}', f'{row["number"]:.0f}')
    return table


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table."""
    args = parse_args(argv)
    init_default_scope('mmboxvis')
    try:
        cfg = Config.fromfile(args.config)
        cfg.merge_from_dict(args.cfg_options or {})
        counter = Counter(
            args.dilations,
            args.thresholds,
            args.checkpoint is not None,
            (True, False) if args.without_shift else (True,),
            args.min_speed,
        )
        clips = load_clips(cfg, args.checkpoint, args.num, args.seed)
        for clip in track(clips, 'clips', total=args.num):
            counter.add(clip)
    except (OSError, ValueError) as error:
        sys.exit(f'analyze_pairs.py: error: {error}')
    Console().print(f'{counter.num_instances} objects')
    Console().print(render(counter.rows()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
