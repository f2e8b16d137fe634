"""Scores as a table to read."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO

from rich.box import ASCII
from rich.console import Console
from rich.table import Table

from .functional import VISEvaluation

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
