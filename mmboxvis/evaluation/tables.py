"""Scores as a table to read."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

import numpy as np
from rich.box import ASCII
from rich.console import Console
from rich.table import Table

from .functional import ERROR_KINDS, ErrorAnalysis, VISEvaluation

_CLASS_METRICS = ('AP', 'AP_50', 'AP_75', 'AR_1', 'AR_10', 'AP_so', 'AP_mo', 'AP_ho')


def _percent(value: float) -> str:
    return '-' if value < 0 else f'{100 * value:.1f}'


def _render(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """Draws a table whose first ``left`` columns are text."""
    table = Table(title=title, title_justify='left', box=ASCII)
    for index, name in enumerate(header):
        table.add_column(name, justify='left' if index < left else 'right', no_wrap=True)
    for row in rows:
        table.add_row(*row)
    stream = StringIO()
    Console(file=stream, width=200, color_system=None, markup=False, emoji=False).print(table)
    return stream.getvalue().rstrip()


def format_scores(evaluation: VISEvaluation, *, per_class: bool = True) -> str:
    """Draws the scores in percent, rounded for reading; ``-`` where there is nothing to score.

    Args:
        evaluation: outcome of an evaluation.
        per_class: whether a second table lists the categories that have an annotation or a
            prediction.
    """
    kind = 'masks' if evaluation.iou_type == 'segm' else 'boxes'
    metrics = evaluation.metrics
    overall = _render(
        f'All classes, {kind} (%)', list(metrics), [[_percent(v) for v in metrics.values()]], 0
    )
    if not per_class:
        return overall
    names = [name for name in _CLASS_METRICS if name in metrics]
    rows = [
        [
            scores.name,
            str(scores.num_truth),
            str(scores.num_results),
            *(_percent(scores.metrics[name]) for name in names),
        ]
        for scores in evaluation.per_class
        if scores.num_truth or scores.num_results
    ]
    header = ['class', 'annotated', 'predicted', *names]
    return f'{overall}\n{_render(f"By class, {kind} (%)", header, rows, 1)}'


def format_errors(analysis: ErrorAnalysis) -> str:
    """Draws for each kind of error what mending it would gain, in percent, and how many there are.

    Columns are the thresholds 0.50 and 0.75 where they were analysed, and the mean over all
    thresholds; numbers of errors are those at the lowest threshold.
    """
    thresholds = analysis.thresholds
    columns = {
        f'AP_{100 * value:.0f}': np.array([level])
        for level, value in enumerate(thresholds)
        if len(thresholds) == 1 or round(value, 6) in (0.5, 0.75)
    }
    if len(thresholds) > 1:
        columns['AP'] = np.arange(len(thresholds))

    def row(name: str, number: str, values: np.ndarray, sign: str) -> list[str]:
        if (analysis.ap < 0).all():
            return [name, number, *['-'] * len(columns)]
        # rounding may leave a gain of -0.0
        means = [float(values[levels].mean().round(9)) + 0.0 for levels in columns.values()]
        return [name.replace('_', ' '), number, *(f'{100 * mean:{sign}.1f}' for mean in means)]

    rows = [row('AP as it is', '', analysis.ap, '')]
    for kind in (*ERROR_KINDS, 'false_positives', 'false_negatives'):
        number = str(int(analysis.counts[kind][0])) if kind in analysis.counts else ''
        rows.append(row(kind, number, analysis.gains[kind], '+'))
    header = ['error', f'number at {thresholds[0]:.2f}', *columns]
    kinds = 'masks' if analysis.iou_type == 'segm' else 'boxes'
    return _render(f'Gain of AP if one kind of error were mended, {kinds} (%)', header, rows, 1)
