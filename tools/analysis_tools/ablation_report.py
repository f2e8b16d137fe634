"""Table and plots of a study whose runs are done; see ``run_ablation.py``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ablation_studies import Study
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmboxvis._cli import UsageError
from mmboxvis.files import whole_file

METRICS = {
    'AP': 'AP',
    'AP_50': 'AP50',
    'AP_75': 'AP75',
    'mean_best_iou': 'mean IoU',
    'fast_best_iou': 'of the fast',
}
_COLORS = ('#9aa5b1', '#6f9bd1', '#2563a8', '#2f8f5b', '#d1602b', '#8a4fa3')


@dataclass(frozen=True)
class Scores:
    """One metric of a row over its S seeds, in percent.

    Attributes:
        values: (S,).
    """

    values: np.ndarray

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(self.values.mean())

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 with a single seed."""
        count = len(self.values)
        return float(self.values.std(ddof=1) / count**0.5) if count > 1 else 0.0

    def __format__(self, sign: str) -> str:
        # one seed says nothing of the spread
        spread = f' ± {self.error:.1f}' if len(self.values) > 1 else ''
        return f'{self.mean:{sign}.1f}{spread}'

    def __str__(self) -> str:
        return format(self, '')


def load_runs(folder: Path) -> list[dict[str, Any]]:
    """Reads every ``ROW/seed_S/run.json`` below ``folder``, ordered by row and seed."""
    runs = [json.loads(path.read_text()) for path in sorted(folder.glob('*/seed_*/run.json'))]
    return sorted(runs, key=lambda run: (run['row'], run['seed']))


def scores_of(runs: Sequence[dict[str, Any]], metric: str) -> Scores:
    """One metric of the runs of a row."""
    return Scores(np.array([100 * run['metrics'][metric] for run in runs]))


def change_of(
    runs: Sequence[dict[str, Any]], before: Sequence[dict[str, Any]], metric: str
) -> Scores | None:
    """How far a row is above another one, seed by seed; ``None`` where they share no seed.

    What a seed does to both rows goes out of the difference.
    """
    earlier = {run['seed']: run['metrics'][metric] for run in before}
    pairs = [(run['metrics'][metric], earlier.get(run['seed'])) for run in runs]
    changes = [100 * (now - then) for now, then in pairs if then is not None]
    return Scores(np.array(changes)) if changes else None


def known_metrics(by_row: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Those of :data:`METRICS` that all runs have; older ones lack some.

    Of each further test set, AP and the mean IoU of all and of the fast follow.
    """
    runs = [run['metrics'] for found in by_row.values() for run in found]
    further = dict.fromkeys(key.split('/')[0] for key in runs[0] if '/' in key)
    titles = METRICS | {
        f'{name}/{key}': f'{name}: {METRICS[key]}'
        for name in further
        for key in ('AP', 'mean_best_iou', 'fast_best_iou')
    }
    return {key: title for key, title in titles.items() if all(key in run for run in runs)}


def write_report(study: Study, folder: Path) -> str:
    """Writes ``table.md``, ``bars.png`` and, if losses were logged, ``curves.png``.

    Args:
        study: whose rows give the order.
        folder: of the study's runs; the files go there too.

    Returns:
        The table.

    Raises:
        UsageError: If no run is done.
    """
    runs = load_runs(folder)
    by_row = {row.name: [run for run in runs if run['row'] == row.name] for row in study.rows}
    by_row = {name: found for name, found in by_row.items() if found}
    if not by_row:
        raise UsageError(f'{folder}: no run is done yet')
    table = _table(study, by_row)
    with whole_file(folder / 'table.md') as temporary:
        temporary.write_text(table + '\n', encoding='utf-8')
    _save(_bars(study, by_row), folder / 'bars.png')
    if any(run['curves'] for found in by_row.values() for run in found):
        _save(_curves(study, by_row), folder / 'curves.png')
    return table


def _table(study: Study, by_row: dict[str, list[dict[str, Any]]]) -> str:
    papers = list(dict.fromkeys(name for row in study.rows for name in row.paper))
    metrics = known_metrics(by_row)
    changed = [key for key in metrics if key.split('/')[-1] == 'AP']
    named = 'the row before' if study.by_steps else next(iter(by_row))
    changes = [f'{metrics[key]}, to {named}' for key in changed]
    header = ['row', 'seeds', 'steps', *metrics.values(), *changes]
    header += [f'paper {name}' for name in papers]
    lines = [header, ['---'] * len(header)]
    before: list[dict[str, Any]] = []
    for row in study.rows:
        runs = by_row.get(row.name)
        if runs is None:
            continue
        steps = '/'.join(str(n) for n in sorted({run['max_iters'] for run in runs}))
        values = [str(scores_of(runs, metric)) for metric in metrics]
        paper = [f'{row.paper[name]:.1f}' if name in row.paper else '' for name in papers]
        steps_up = [change_of(runs, before, metric) for metric in changed]
        values += ['' if change is None else f'{change:+}' for change in steps_up]
        lines.append([row.name, str(len(runs)), steps, *values, *paper])
        if study.by_steps or not before:
            before = runs
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _figure(study: Study, size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout='constrained')
    FigureCanvasAgg(figure)
    figure.suptitle(study.title, fontsize=12, fontweight='bold', x=0.01, ha='left')
    return figure


def _bars(study: Study, by_row: dict[str, list[dict[str, Any]]]) -> Figure:
    """Mean of each metric with its standard error, and a dot for each seed."""
    names, metrics = list(by_row), known_metrics(by_row)
    figure = _figure(study, (2.5 * len(metrics), 1.6 + 0.42 * len(by_row)))
    for index, (metric, title) in enumerate(metrics.items()):
        panel = figure.add_subplot(1, len(metrics), index + 1)
        for y, name in enumerate(names):
            scores = scores_of(by_row[name], metric)
            color = _COLORS[y % len(_COLORS)]
            panel.barh(y, scores.mean, xerr=scores.error, color=color, capsize=3, height=0.62)
            panel.plot(scores.values, [y] * len(scores.values), 'o', color='#1d2733', markersize=3)
        panel.set_yticks(range(len(names)), names if index == 0 else [''] * len(names), fontsize=9)
        panel.invert_yaxis()
        panel.set_title(f'{title} (%)', fontsize=10, loc='left')
        panel.grid(axis='x', alpha=0.25)
        panel.set_xlim(left=0)
        panel.spines[['top', 'right']].set_visible(False)
    return figure


def _curves(study: Study, by_row: dict[str, list[dict[str, Any]]]) -> Figure:
    """Losses of the last layer over the steps: the mean over the seeds and their range."""
    names = ('loss_cls', 'loss_proj', 'loss_pair', 'loss_mask', 'pseudo_share')
    shown = [
        n for n in names if any(n in run['curves'] for runs in by_row.values() for run in runs)
    ]
    figure = _figure(study, (3.4 * len(shown), 3.4))
    for index, key in enumerate(shown):
        panel = figure.add_subplot(1, len(shown), index + 1)
        for number, (name, runs) in enumerate(by_row.items()):
            curves = [run['curves'][key] for run in runs if key in run['curves']]
            if not curves:
                continue
            length = min(len(steps) for steps, _ in curves)
            steps = np.array(curves[0][0][:length])
            values = np.array([values[:length] for _, values in curves])
            color = _COLORS[number % len(_COLORS)]
            panel.plot(steps, values.mean(0), color=color, label=name, linewidth=1.5)
            panel.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15)
        panel.set_title(key, fontsize=10, loc='left')
        panel.set_xlabel('iteration', fontsize=8)
        panel.grid(alpha=0.25)
        panel.spines[['top', 'right']].set_visible(False)
    handles = {
        label: handle
        for panel in figure.axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()),
        list(handles),
        loc='outside lower center',
        ncols=len(handles),
        frameon=False,
        fontsize=8,
    )
    return figure


def _save(figure: Figure, path: Path) -> None:
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, format='png')
