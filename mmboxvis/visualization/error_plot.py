"""What each kind of error costs, as bars."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmboxvis.evaluation.functional import ERROR_KINDS, ErrorAnalysis
from mmboxvis.files import StrPath, whole_file

_COLOR, _FAINT = '#2563a8', '#a8c3e0'


def plot_errors(analysis: ErrorAnalysis, out_png: StrPath, *, title: str = '') -> Path:
    """Draws the gain of AP that mending each kind of error would bring.

    A bar is the mean over the thresholds, the fainter one behind it the lowest threshold alone.

    Args:
        analysis: outcome of an analysis.
        out_png: written whole or not at all.
        title: a line above the bars.

    Returns:
        ``out_png``.
    """
    figure = Figure(figsize=(6.4, 3.4), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = [kind.replace('_', ' ') for kind in ERROR_KINDS][::-1]
    lowest = [100 * float(analysis.gains[kind][0]) for kind in ERROR_KINDS][::-1]
    mean = [100 * float(analysis.gains[kind].mean()) for kind in ERROR_KINDS][::-1]
    several = len(analysis.thresholds) > 1
    first = f'at IoU {analysis.thresholds[0]:.2f}'
    axes.barh(names, lowest, height=0.72, color=_FAINT if several else _COLOR, label=first)
    if several:
        axes.barh(names, mean, height=0.4, color=_COLOR, label='mean over thresholds')
        axes.legend(frameon=False, fontsize=8)
    ap = max(0.0, float(analysis.ap.mean()))
    axes.set_title(title or f'AP is {100 * ap:.1f} %; mending would add', fontsize=10, loc='left')
    axes.set_xlabel('points of AP', fontsize=8, color='#555555')
    axes.tick_params(labelsize=9, colors='#333333')
    axes.grid(axis='x', alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlim(left=0, right=max(1.0, *lowest, *mean) * 1.08)
    for side in ('top', 'right', 'left'):
        axes.spines[side].set_visible(False)
    axes.spines['bottom'].set_color('#bbbbbb')
    with whole_file(out_png) as temporary:
        figure.savefig(temporary, dpi=130)
    return Path(out_png)
