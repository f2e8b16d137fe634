r"""Compares a teacher's pseudo masks, as they are and refined, with true masks.

    python tools/analysis_tools/analyze_pseudo_masks.py CONFIG CKPT --truth TWIN_CONFIG \
        --thetas 2 5 10 --plot scores.png --sheet masks.png

TWIN_CONFIG gives training clips with masks, as the pixel-supervised twins' configs do; the masks
only judge. An instance counts once a clip, by the IoU of its pseudo mask over all frames. The
table also has the box itself taken for a mask; *area* is the median of the masks' over that of the
true ones, *order* the rank correlation of scores and IoU: a threshold on scores is worth as much as
they order the masks.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr
from torch import Tensor

from mmboxvis.apis import load_weights
from mmboxvis.files import require_writable, whole_file
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.models.task_modules import PseudoMaskGenerator
from mmboxvis.models.vis import BoxVIS
from mmboxvis.registry import DATASETS, MODELS
from mmboxvis.structures import ClipTargets
from mmboxvis.visualization.overlay import draw_tracks
from mmboxvis.visualization.sheet import contact_sheet

BOX, TAKEN, COLORS, TRUE = 'filled box', 'as they are', 'colour models', 'true masks'
SHEET_CLIPS = 5
LEVELS = (0.5, 0.7, 0.9)


def track_ious(masks: Tensor, truth: Tensor) -> Tensor:
    """(N,) IoU of (N, T, H, W) masks over all frames; nan for an object that is nowhere seen."""
    found, true = masks.flatten(1) > 0.5, truth.flatten(1) > 0.5
    ious = (found & true).sum(1) / (found | true).sum(1)
    return torch.where(true.any(1), ious, torch.nan)


@dataclass(frozen=True)
class Figures:
    """Of the M instances of some clips.

    Attributes:
        ious: (M,) of the masks with the true ones.
        areas: (M,) of the masks over those of the true ones.
        scores: (M,) the teacher's; 1 for boxes.
    """

    ious: Tensor
    areas: Tensor
    scores: Tensor

    @classmethod
    def of(cls, masks: Tensor, scores: Tensor, truth: Tensor) -> Figures:
        """Compares (N, T, H, W) masks in [0, 1] with true ones."""
        ious = track_ious(masks, truth)
        visible = ~ious.isnan()
        areas = (masks > 0.5).flatten(1).sum(1) / (truth > 0.5).flatten(1).sum(1)
        return cls(ious[visible], areas[visible], scores[visible])

    @classmethod
    def join(cls, parts: Sequence[Figures]) -> Figures:
        """Of all clips."""
        columns = zip(*((part.ious, part.areas, part.scores) for part in parts))
        return cls(*(torch.cat(column) for column in columns))


@dataclass(frozen=True)
class Clip:
    """Pseudo masks of a clip in all ways.

    Attributes:
        rgb: (T, 3, H, W), 0-255.
        masks: by row of the table, (N, T, H, W) in [0, 1].
        scores: (N,), the teacher's.
        truth: (N, T, H, W).
        labels: (N,) int64.
    """

    rgb: Tensor
    masks: Mapping[str, Tensor]
    scores: Tensor
    truth: Tensor
    labels: Tensor

    def figures(self) -> dict[str, Figures]:
        """By row of the table."""
        scores = {name: self.scores for name in self.masks} | {BOX: torch.ones_like(self.scores)}
        return {name: Figures.of(self.masks[name], scores[name], self.truth) for name in self.masks}

    def pictures(self, class_names: Sequence[str]) -> dict[str, np.ndarray]:
        """The frame in the middle with each row's masks, and with the true ones."""
        return draw_masks(self.rgb, self.masks | {TRUE: self.truth}, self.labels, class_names)


def draw_masks(
    rgb: Tensor, masks: Mapping[str, Tensor], labels: Tensor, class_names: Sequence[str]
) -> dict[str, np.ndarray]:
    """The frame in the middle of a clip with the masks of each kind.

    Args:
        rgb: (T, 3, H, W), 0-255.
        masks: by kind, (N, T, H, W) in [0, 1].
        labels: (N,) int64.
        class_names: by label.
    """
    t = len(rgb) // 2
    frame = rgb[t].flip(0).permute(1, 2, 0).byte().numpy()
    said = dict(labels=labels.numpy(), class_names=class_names)
    return {
        kind: draw_tracks(frame, masks=(some[:, t] > 0.5).numpy(), **said)
        for kind, some in masks.items()
    }


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='of a BoxVIS model')
    parser.add_argument('checkpoint')
    parser.add_argument('--truth', required=True, metavar='CONFIG', help='loads clips with masks')
    parser.add_argument(
        '--thetas',
        type=float,
        nargs='+',
        default=[2.0, 5.0, 10.0],
        help='colour distances of AffinityRefinement, also after colour models (default: 2 5 10)',
    )
    parser.add_argument('--num', type=int, default=60, help='clips (default: 60)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--plot', type=Path, help='draw scores against IoU')
    parser.add_argument(
        '--sheet', type=Path, help=f'draw the masks in {SHEET_CLIPS} clips that have any'
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE')
    return parser.parse_args(argv)


def load_model(cfg: Config, checkpoint: str) -> BoxVIS:
    """Builds the model with its teacher.

    Raises:
        ValueError: if the config has none.
    """
    model = MODELS.build(cfg.model).eval()
    if getattr(model, 'teacher', None) is None:
        raise ValueError(f'{cfg.filename} has no teacher: take the config of a BoxVIS model')
    load_weights(model, checkpoint)
    return model


def make_generators(model: BoxVIS, thetas: Sequence[float]) -> dict[str, PseudoMaskGenerator]:
    """One for each row of the table, with the model's matching."""
    assert model.pseudo_mask_generator is not None
    assigner = model.pseudo_mask_generator.assigner
    generators = {TAKEN: PseudoMaskGenerator(assigner)}
    colors = dict(type='ColorModelRefinement')
    generators[COLORS] = PseudoMaskGenerator(assigner, colors)
    for theta in thetas:
        refine = dict(type='AffinityRefinement', theta=theta)
        generators[f'theta {theta:g}'] = PseudoMaskGenerator(assigner, refine)
        generators[f'{COLORS}, theta {theta:g}'] = PseudoMaskGenerator(assigner, [colors, refine])
    return generators


@torch.no_grad()
def compare(
    model: BoxVIS, dataset: Sequence, indices: Sequence[int], thetas: Sequence[float]
) -> Iterator[Clip]:
    """Yields one clip after another.

    Raises:
        ValueError: if clips come without masks.
    """
    assert model.teacher is not None
    generators = make_generators(model, thetas)
    for index in indices:
        batch = model.data_preprocessor(pseudo_collate([dataset[int(index)]]), True)
        rgb, [sample] = batch['rgb'][0], batch['data_samples']
        size = (rgb.shape[-2], rgb.shape[-1])
        targets = ClipTargets.from_data_sample(
            sample, size, released_boxes=model.released_boxes, box_centers=model.box_centers
        )
        if targets.masks is None:
            raise ValueError('--truth loads no masks; take the config of a pixel-supervised twin')
        prediction = model.teacher(batch['inputs'], last_only=True)[-1]
        lab, pseudo = rgb_to_lab(rgb), {}
        for name, generator in generators.items():
            pseudo[name] = generator(
                prediction.cls_logits[0],
                prediction.mask_logits[0],
                targets.labels,
                targets.box_masks,
                lab,
            )
        masks = {BOX: targets.box_masks} | {name: found.masks for name, found in pseudo.items()}
        yield Clip(rgb, masks, pseudo[TAKEN].scores, targets.masks, targets.labels)


def render(rows: Mapping[str, Figures]) -> Table:
    """Draws the table."""
    # 80 columns, those of a terminal, have to hold all
    title = 'Pseudo masks against true masks; IoU above a level in %'
    table = Table(title=title, title_justify='left')
    table.add_column('masks', no_wrap=True)
    for head in ('count', 'mean\nIoU', *(f'>{v:g}' for v in LEVELS), 'area', 'order'):
        table.add_column(head, justify='right', no_wrap=True)
    for name, row in rows.items():
        shares = [f'{100 * float((row.ious > level).float().mean()):.0f}' for level in LEVELS]
        order = '' if name == BOX else f'{spearmanr(row.scores, row.ious).statistic:.2f}'
        mean, area = float(row.ious.mean()), float(row.areas.median())
        table.add_row(name, str(len(row.ious)), f'{mean:.3f}', *shares, f'{area:.2f}', order)
    return table


def plot(rows: Mapping[str, Figures], path: Path) -> None:
    """Draws the scores against the IoU, a panel a row; the file is written whole."""
    rows = {name: row for name, row in rows.items() if name != BOX}
    figure = Figure(figsize=(3.2 * len(rows), 3.7), layout='constrained')
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(1, len(rows), sharex=True, sharey=True))
    for panel, (name, row) in zip(panels, rows.items(), strict=True):
        panel.scatter(row.scores, row.ious, s=10, alpha=0.6, color='#2563a8', linewidths=0)
        panel.plot([0, 1], [0, 1], color='#9aa0a8', linewidth=0.8)
        panel.set(xlabel='score', xlim=(0, 1), ylim=(0, 1), aspect='equal')
        panel.set_title(name, fontsize=10)
    panels[0].set_ylabel('IoU with the true mask')
    with whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:] or 'png', dpi=110)


def run(args: argparse.Namespace) -> None:
    """Prints the table and draws the plot.

    Raises:
        OSError: if a picture cannot be written, which is told before the work.
        ValueError: if nothing is visible in the clips, or they come without masks.
    """
    for path in filter(None, (args.plot, args.sheet)):
        require_writable(path)
    cfg, truth = Config.fromfile(args.config), Config.fromfile(args.truth)
    cfg.merge_from_dict(args.cfg_options or {})
    model = load_model(cfg, args.checkpoint)
    dataset = DATASETS.build(truth.train_dataloader.dataset)
    # the transforms draw from the global generator
    np.random.seed(args.seed)
    number = min(args.num, len(dataset))
    indices = np.random.default_rng(args.seed).choice(len(dataset), number, replace=False)
    figures, pictures = [], []
    for clip in track(compare(model, dataset, indices, args.thetas), 'clips', total=number):
        figures.append(clip.figures())
        if args.sheet is not None and len(clip.truth) and len(pictures) < SHEET_CLIPS:
            pictures.append(clip.pictures(dataset.metainfo['classes']))
    rows = {name: Figures.join([of_clip[name] for of_clip in figures]) for name in figures[0]}
    if not len(rows[BOX].ious):
        raise ValueError(f'no instance is visible in {number} clips; take more with --num')
    Console().print(render(rows))
    if args.plot is not None:
        plot(rows, args.plot)
        print(f'Wrote {args.plot}')
    if args.sheet is not None:
        names = list(pictures[0])
        contact_sheet(
            [[each[name] for each in pictures] for name in names], titles=names, path=args.sheet
        )
        print(f'Wrote {args.sheet}')


def main(argv: Sequence[str] | None = None) -> int:
    """Compares; a failure is one line and exit code 1."""
    args = parse_args(argv)
    init_default_scope('mmboxvis')
    try:
        run(args)
    except (OSError, ValueError) as error:
        sys.exit(f'analyze_pseudo_masks.py: error: {error}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
