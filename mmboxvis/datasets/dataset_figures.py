"""Pictures of what sets hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmboxvis.files import StrPath, whole_file

from .dataset_stats import BINS, HISTOGRAM_LABELS, SetStatistics, category_table

_COLORS = ('#3b6fb6', '#e08a2e', '#4c9f70', '#b5495b', '#7d68b0', '#8c8c8c')
_PERSON, _PERSON_SHARE = 'person', 5


def plot_categories(sets: Sequence[SetStatistics], path: StrPath) -> Path:
    """Objects per class as stacked bars (paper Fig. 2).

    As in the paper, person is divided by 5 for display where it is the most frequent class.

    Args:
        sets: one colour each.
        path: a PNG, written whole or not at all.
    """
    rows = {name: counts for name, counts in category_table(sets).items() if sum(counts)}
    names = list(rows)
    heights = np.array([rows[name] for name in names], float).reshape(len(names), len(sets))
    if len(names) > 1 and names[0].casefold() == _PERSON:
        heights[0] /= _PERSON_SHARE
        names[0] = f'{names[0]} / {_PERSON_SHARE}'
    figure = Figure(figsize=(max(5.0, 0.28 * len(names) + 1.5), 4.2), layout='constrained')
    axes = figure.add_subplot()
    foot = np.zeros(len(names))
    for column, one in enumerate(sets):
        color = _COLORS[column % len(_COLORS)]
        axes.bar(names, heights[:, column], bottom=foot, color=color, label=one.name)
        foot += heights[:, column]
    axes.set_ylabel('objects')
    axes.set_title('Objects per category')
    axes.tick_params(axis='x', rotation=90)
    axes.margins(x=0.01)
    axes.yaxis.set_major_formatter('{x:,.0f}')
    if len(sets) > 1:
        axes.legend(frameon=False)
    return _save(figure, [axes], path)


def plot_histograms(sets: Sequence[SetStatistics], path: StrPath) -> Path:
    """Size, length, occlusion and motion of each set, as shares of what is counted.

    Args:
        sets: one colour each.
        path: a PNG, written whole or not at all.
    """
    histograms = [one.histograms() for one in sets]
    shown = [name for name in BINS if any(name in own for own in histograms)]
    levels = sorted({level for one in sets for level in one.occlusion}, key=_level_order)
    panels = len(shown) + bool(levels)
    figure = Figure(figsize=(5.2 * min(panels, 2), 3.1 * -(-panels // 2)), layout='constrained')
    all_axes = [figure.add_subplot(-(-panels // 2), min(panels, 2), i + 1) for i in range(panels)]
    for axes, name in zip(all_axes, shown, strict=False):
        counts = [own.get(name, np.zeros(len(BINS[name]) - 1)) for own in histograms]
        _bars(axes, _bin_names(BINS[name]), counts, [one.name for one in sets])
        axes.set_title(HISTOGRAM_LABELS[name], fontsize=9)
    if levels:
        counts = [np.array([one.occlusion.get(level, 0) for level in levels]) for one in sets]
        names = [level.removesuffix('_occlusion') for level in levels]
        _bars(all_axes[-1], names, counts, [one.name for one in sets])
        all_axes[-1].set_title('occlusion as annotated', fontsize=9)
    if len(sets) > 1 and all_axes:
        all_axes[0].legend(frameon=False, fontsize=8)
    return _save(figure, all_axes, path)


def _bars(
    axes: Axes, names: Sequence[str], counts: Sequence[np.ndarray], labels: Sequence[str]
) -> None:
    """Bars of several sets beside each other, each set summing to 100 %."""
    width = 0.8 / len(counts)
    for column, (own, label) in enumerate(zip(counts, labels, strict=True)):
        share = 100 * own / max(own.sum(), 1)
        left = np.arange(len(names)) - 0.4 + (column + 0.5) * width
        axes.bar(left, share, width, color=_COLORS[column % len(_COLORS)], label=label)
    axes.set_xticks(np.arange(len(names)), names, fontsize=7)
    axes.set_ylabel('%', fontsize=8)
    axes.tick_params(axis='y', labelsize=7)


def _level_order(level: str) -> tuple[int, str]:
    """The levels of OVIS from none to severe, others after them."""
    known = ('no', 'slight', 'severe')
    name = level.removesuffix('_occlusion')
    return known.index(name) if name in known else len(known), name


def _bin_names(edges: Sequence[float]) -> list[str]:
    """Lower edges; the last bin has no upper one."""
    return [f'{edge:g}+' for edge in edges[:-1]]


def _save(figure: Figure, all_axes: Sequence[Axes], path: StrPath) -> Path:
    for axes in all_axes:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(axis='y', color='0.9')
        axes.set_axisbelow(True)
    FigureCanvasAgg(figure)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=130, format='png')
    return Path(path)
