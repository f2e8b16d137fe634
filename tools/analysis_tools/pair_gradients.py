r"""Compares what the pairs of a study's rows tell a network: gradients of the student's parameters.

    python tools/analysis_tools/pair_gradients.py table4 --set toyvis-hard-started CKPT

For each training clip the network predicts, queries are matched to the boxes, and the pairwise
loss of every row gives a gradient of all trained parameters. The table has the mean cosine between
those of two rows, with its standard error: rows near 1 teach a network the same, whatever they
would do to free logits (see ``fit_masks.py``). Nothing is trained. Rows without pairs are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ablation_studies import SETS, STUDIES
from analyze_pairs import Clip, load_clips
from fit_masks import Losses, rows_of, truth_config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from mmboxvis._cli import UsageError
from mmboxvis.apis import load_weights
from mmboxvis.registry import MODELS


def gradients(model: Any, clip: Clip, losses: Mapping[str, Losses]) -> dict[str, Tensor]:
    """Gradient of each row's pairwise loss of the last layer's matched masks.

    Args:
        model: a BoxVIS.
        clip: with inputs and objects.
        losses: of the rows, with pairs.

    Returns:
        (P,) over all P trained numbers of the student, of the rows that keep a pair.
    """
    assert clip.inputs is not None
    prediction = model.student(clip.inputs, last_only=True)[-1]
    targets = clip.targets
    logits = (prediction.cls_logits[0].detach(), prediction.mask_logits[0].detach())
    [(queries, objects)] = model.criterion.assigner.assign(
        [logits[0]], [logits[1]], targets, None, 1.0
    )
    masks = prediction.mask_logits[0][queries].float()
    features = prediction.mask_features[0].detach()
    parameters = [p for p in model.student.parameters() if p.requires_grad]
    found = {}
    for name, row in losses.items():
        pairs = row.pair.build_pairs(
            clip.lab, features, targets.boxes[objects], targets.box_masks[objects]
        )
        if not pairs.num_pairs:
            continue
        parts = torch.autograd.grad(
            row.pair(masks, pairs), parameters, retain_graph=True, allow_unused=True
        )
        found[name] = torch.cat(
            [
                (torch.zeros_like(p) if part is None else part).flatten()
                for p, part in zip(parameters, parts, strict=True)
            ]
        )
    return found


def cosines(found: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """(R, R) cosines between the gradients of R rows; nan where a row has none, or it is 0."""
    size = next(iter(found.values())).shape if found else (0,)
    stacked = torch.stack([found.get(name, torch.full(size, torch.nan)) for name in names])
    # a gradient of 0 points nowhere
    directions = stacked / stacked.norm(dim=1, keepdim=True)
    return directions @ directions.T


def render(values: Tensor, names: Sequence[str]) -> Table:
    """Draws the table.

    Args:
        values: (C, R, R) of C clips.
        names: R.
    """
    table = Table(title='Cosine between the gradients of two rows, mean over the clips')
    table.title_justify = 'left'
    table.add_column('row', no_wrap=True)
    for name in names:
        table.add_column(name, justify='right')
    known = ~values.isnan()
    counts = known.sum(0)
    means = values.nan_to_num().sum(0) / counts
    spread = ((values - means).nan_to_num() ** 2).sum(0) / (counts - 1).clamp(min=1)
    errors = (spread / counts).sqrt()
    for i, name in enumerate(names):
        cells = [f'{means[i, j]:.3f} ± {errors[i, j]:.3f}' for j in range(i)]
        table.add_row(name, *cells)
    return table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', choices=sorted(STUDIES))
    parser.add_argument('checkpoint', help="weights of the set's config")
    parser.add_argument('--set', dest='data', choices=sorted(SETS), default='toyvis-hard-started')
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these; default: all')
    parser.add_argument('--num', type=int, default=40, help='clips (default: 40)')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns the exit status."""
    args = parse_args(argv)
    init_default_scope('mmboxvis')
    try:
        rows = rows_of(args.study, args.data, args.rows)
        losses = {name: Losses.of(cfg) for name, cfg in rows.items()}
        losses = {name: row for name, row in losses.items() if row.pair is not None}
        if len(losses) < 2:
            raise UsageError(f'{args.study}: needs two rows that differ in their pairs')
        cfg = truth_config(args.data)
        model = MODELS.build(cfg.model)
        load_weights(model, args.checkpoint)
        model.train()
        names = list(losses)
        clips = load_clips(cfg, None, args.num, args.seed)
        found = [
            gradients(model, clip, losses)
            for clip in track(clips, 'clips', total=args.num)
            if len(clip.targets)
        ]
    except (OSError, ValueError, UsageError) as error:
        print(f'pair_gradients.py: error: {error}', file=sys.stderr)
        return 1
    Console(width=max(100, 24 * (len(names) + 1))).print(
        render(torch.stack([cosines(one, names) for one in found]), names)
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
