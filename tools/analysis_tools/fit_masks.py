r"""Fits masks to the losses of a study's rows without a network: what do the losses ask for?

    python tools/analysis_tools/fit_masks.py table4 --set toyvis-hard --features CKPT \
        --sheet masks.png

The logits of each object in a training clip are free, begin with a disc in the middle of the box
and follow the gradient of projection and pairs alone. So what a row changes shows without the noise
of training: all rows fit the same clips, and the difference to the row before, or to the one that
``--against`` names, is taken object by object. True masks only judge. What a network adds, that
alike things get alike masks, is missing, and so are pseudo masks: rows that differ in nothing but
them are left out.

Pairs that compare features take them from the student of CKPT, a checkpoint of the set's config.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ablation_studies import SETS, STUDIES, Row, row_config, study_rows
from analyze_pairs import Clip, load_clips
from analyze_pseudo_masks import SHEET_CLIPS, TRUE, draw_masks, track_ious
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from mmboxvis._cli import UsageError
from mmboxvis.files import require_writable
from mmboxvis.registry import MODELS
from mmboxvis.visualization.sheet import contact_sheet

STRIDE = 4  # pixels of the frame a logit of the network's masks
START = 2.0  # logit in the middle of the box; outside of it is the negative
LEARNING_RATE = 0.1  # of Adam, about the change of a logit in a step


@dataclass(frozen=True)
class Losses:
    """The losses of one row.

    Attributes:
        projection: of the boxes.
        pair: a pairwise loss, or ``None``.
    """

    projection: nn.Module
    pair: Any = None

    @classmethod
    def of(cls, cfg: Config) -> Losses:
        """Builds those of a config."""
        criterion = cfg.model.criterion
        pair = criterion.get('loss_pair')
        return cls(MODELS.build(criterion.loss_proj), None if pair is None else MODELS.build(pair))


def first_logits(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Falls from the middle of each box to its edge, and is 0 half-way.

    From the filled box nothing would move: a pair of alike points is content where both are in it.

    Args:
        boxes: (N, T, 4) xyxy in 0-1, all zero = absent.
        size: (h, w).

    Returns:
        (N, T, h, w), -START where there is no box.
    """
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    y, x = ((torch.arange(side) + 0.5) / side for side in size)
    half = half.clamp(min=1e-6)[..., None, None]
    away_x = (x[None, :] - middle[..., :1, None]) / half[..., 0, :, :]
    away_y = (y[:, None] - middle[..., 1:, None]) / half[..., 1, :, :]
    return START * (1 - 2 * torch.hypot(away_x, away_y).clamp(max=1))


def fit(clip: Clip, losses: Losses, steps: int) -> Tensor:
    """Follows the losses from :func:`first_logits`.

    Args:
        clip: of N objects in T frames of (H, W).
        losses: of a row.
        steps: of Adam.

    Returns:
        (N, T, H, W) probabilities.
    """
    targets = clip.targets
    if not len(targets):
        return torch.zeros_like(targets.box_masks)
    pairs = None
    if losses.pair is not None:
        pairs = losses.pair.build_pairs(clip.lab, clip.features, targets.boxes, targets.box_masks)
    height, width = clip.size
    logits = first_logits(targets.boxes, (height // STRIDE, width // STRIDE)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=LEARNING_RATE)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = losses.projection(logits, targets.box_masks)
        if pairs is not None:
            loss = loss + losses.pair(logits, pairs)
        loss.backward()
        optimizer.step()
    return F.interpolate(logits.detach().sigmoid(), clip.size, mode='bilinear', align_corners=False)


def rows_of(study: str, data: str, names: Sequence[str] | None) -> dict[str, Config]:
    """Configs of the rows that differ in projection or pairs.

    Raises:
        UsageError: for a row that is not in the study.
    """
    rows, seen = {}, []
    for row in study_rows(study, names):
        if row.pixels or SETS[data].config(row) is None:
            continue
        cfg = row_config(data, row, seed=0)
        losses = [cfg.model.criterion.get(name) for name in ('loss_proj', 'loss_pair')]
        if losses not in seen:
            rows[row.name] = cfg
            seen.append(losses)
    return rows


def truth_config(data: str) -> Config:
    """Loads clips with masks, and builds the network of the set's boxes; of folds it is the first.

    Raises:
        UsageError: for a set without a twin that trains from masks.
    """
    if SETS[data].pixels is None:
        raise UsageError(f'the set {data} has no masks of training clips to judge by')
    cfg = row_config(data, Row('masks', pixels=True), seed=0)
    cfg.model = row_config(data, Row('boxes'), seed=0).model
    return cfg


def render(ious: Mapping[str, Tensor], fast: Tensor, against: str | None = None) -> Table:
    """Draws the table.

    Args:
        ious: (M,) by row.
        fast: (M,) bool, the objects of the last columns.
        against: the row that all others are compared with; ``None``: the row before.
    """
    table = Table(title='Masks that the losses ask for: IoU with the true ones (%)')
    table.title_justify = 'left'
    table.add_column('row', no_wrap=True)
    change = 'to the row before' if against is None else f'to {against}'
    for head in ('all', change, 'of the fast', change):
        table.add_column(head, justify='right')
    other = None if against is None else ious[against]
    for name, values in ious.items():
        cells = []
        for chosen in (torch.ones_like(fast), fast):
            gain = ''
            if other is not None and name != against:
                gain = _with_error((values - other)[chosen])
            cells += [f'{100 * float(values[chosen].mean()):.1f}', gain]
        table.add_row(name, *cells)
        if against is None:
            other = values
    return table


def _with_error(gains: Tensor) -> str:
    """Mean of paired differences and its standard error, in percent."""
    if len(gains) < 2:
        return ''
    error = float(gains.std() / len(gains) ** 0.5)
    return f'{100 * float(gains.mean()):+.1f} ± {100 * error:.1f}'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', choices=sorted(STUDIES))
    parser.add_argument('--set', dest='data', choices=sorted(SETS), default='toyvis-hard')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows; default: all')
    parser.add_argument('--against', metavar='ROW', help='compare all with this row')
    parser.add_argument('--features', metavar='CKPT', help='whose features the pairs compare')
    parser.add_argument('--num', type=int, default=60, help='clips (default: 60)')
    parser.add_argument('--steps', type=int, default=250, help='of Adam (default: 250)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--fast',
        type=float,
        default=0.25,
        metavar='SPEED',
        help='sizes of an object from a frame to the next that are fast (default: 0.25)',
    )
    parser.add_argument(
        '--sheet', type=Path, help=f'draw the masks in {SHEET_CLIPS} clips that have any'
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Prints the table and draws the sheet.

    Raises:
        OSError: if the sheet cannot be written, which is told before the work.
        UsageError: if the arguments do not go together, or no object is seen.
    """
    if args.sheet is not None:
        require_writable(args.sheet)
    losses = {
        name: Losses.of(cfg) for name, cfg in rows_of(args.study, args.data, args.rows).items()
    }
    if args.against is not None and args.against not in losses:
        raise UsageError(f'--against {args.against!r}: choose one of {list(losses)}')
    compared = [n for n, row in losses.items() if getattr(row.pair, 'use_patch_corr', False)]
    if compared and args.features is None:
        raise UsageError(f'{compared} compare features: give a checkpoint with --features')
    cfg = truth_config(args.data)
    ious: dict[str, list[Tensor]] = {name: [] for name in losses}
    fast: list[Tensor] = []
    pictures: list[dict[str, np.ndarray]] = []
    clips = load_clips(cfg, args.features, args.num, args.seed)
    for clip in track(clips, 'clips', total=args.num):
        truth = clip.targets.masks
        if truth is None or clip.rgb is None:
            raise UsageError(f'the set {args.data} loads no masks')
        masks = {name: fit(clip, row, args.steps) for name, row in losses.items()}
        for name, some in masks.items():
            ious[name].append(track_ious(some, truth))
        fast.append(clip.speeds() >= args.fast)
        if args.sheet is not None and len(truth) and len(pictures) < SHEET_CLIPS:
            drawn, labels = masks | {TRUE: truth}, clip.targets.labels
            pictures.append(draw_masks(clip.rgb, drawn, labels, clip.class_names))
    joined = {name: torch.cat(parts) for name, parts in ious.items()}
    seen = ~torch.isnan(torch.stack(list(joined.values()))).any(0)
    if not seen.any():
        raise UsageError(f'no object is seen in {args.num} clips; take more: --num')
    of_fast = torch.cat(fast)[seen]
    Console().print(f'{int(seen.sum())} objects, {int(of_fast.sum())} of them fast')
    shown = {name: values[seen] for name, values in joined.items()}
    Console().print(render(shown, of_fast, args.against))
    if args.sheet is not None:
        kinds = list(pictures[0])
        cells: list[list[np.ndarray]] = [[each[kind] for each in pictures] for kind in kinds]
        contact_sheet(cells, titles=kinds, path=args.sheet)
        print(f'Wrote {args.sheet}')


def main(argv: Sequence[str] | None = None) -> int:
    """Fits masks; a failure is one line and exit code 1."""
    args = parse_args(argv)
    init_default_scope('mmboxvis')
    try:
        run(args)
    except (OSError, ValueError, UsageError) as error:
        sys.exit(f'fit_masks.py: error: {error}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
