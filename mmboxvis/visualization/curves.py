"""Training curves from the logs that the runner writes."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmboxvis.files import StrPath, whole_file

Record = Mapping[str, Any]
Log = StrPath | Sequence[Record]

_COLORS = ('#2563a8', '#d1602b', '#2f8f5b', '#8a4fa3', '#b58a12', '#4a4f57')
# what the runner logs beside losses and metrics
_NOT_CURVES = {'step', 'iter', 'epoch', 'time', 'data_time', 'memory', 'base_lr'}
_LAYER_TERM = re.compile(r'(^|\.)d\d+\.')
_AP = re.compile(r'(^|/)AP(_50|_75)?$')


@dataclass(frozen=True)
class Curve:
    """One scalar of a run: ``steps`` (n,) iterations and ``values`` (n,), finite."""

    steps: np.ndarray
    values: np.ndarray
    is_metric: bool


def find_logs(work_dir: StrPath) -> list[Path]:
    """Lists the ``scalars.json`` files of a work dir, oldest run first.

    Args:
        work_dir: the runner's work dir, or one ``scalars.json``.

    Raises:
        FileNotFoundError: there is none.
    """
    work_dir = Path(work_dir)
    if work_dir.is_file():
        return [work_dir]
    found = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not found:
        raise FileNotFoundError(
            f'{work_dir}: no <timestamp>/vis_data/scalars.json; give the --work-dir of a training'
        )
    return found


def load_records(log: Log) -> list[Record]:
    """Reads the records of one run.

    Args:
        log: a work dir, a ``scalars.json`` (one json object a line), or loaded records. Where a
            work dir holds several starts, a later one replaces the steps it repeats.

    Returns:
        The records in the order they were logged.

    Raises:
        FileNotFoundError: there is no log.
        ValueError: a line is no json object; a last line cut short by a crash is passed over.
    """
    if not isinstance(log, str | os.PathLike):
        return list(log)
    records: list[Record] = []
    for path in find_logs(log):
        new = _read_lines(path)
        first = min((_step(r) for r in new if _is_training(r)), default=math.inf)
        records = [r for r in records if _step(r) < first] + new
    return records


def extract_curves(records: Sequence[Record]) -> dict[str, Curve]:
    """Sorts records into curves over iterations.

    Validation results that were logged by epoch are placed at the last iteration of that epoch.
    Values that are no finite number, and metrics of -1 (nothing to score), are left out; where a
    step was logged twice, the later value counts.

    Args:
        records: of one run, see :func:`load_records`.

    Returns:
        A curve for each scalar, in order of appearance.
    """
    epoch_ends = _epoch_ends(records)
    points: dict[str, dict[float, float]] = {}
    metrics: set[str] = set()
    for record in records:
        training = _is_training(record)
        step = _step(record)
        if not training:
            step = epoch_ends.get(step, step)
        for key, value in record.items():
            if key in _NOT_CURVES or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if not math.isfinite(value) or (not training and value == -1):
                continue
            points.setdefault(key, {})[step] = float(value)
            if not training:
                metrics.add(key)
    curves = {}
    for key, values in points.items():
        steps, heights = np.array(sorted(values.items())).T
        curves[key] = Curve(steps, heights, key in metrics)
    return curves


def smoothed(values: np.ndarray, weight: float) -> np.ndarray:
    """Exponential moving average without the bias towards the start.

    Args:
        values: (n,).
        weight: share of the past in [0, 1); 0 returns the values.

    Returns:
        (n,) float64.
    """
    average = np.empty(len(values))
    total = norm = 0.0
    for index, value in enumerate(values):
        total = weight * total + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        average[index] = total / norm
    return average


def plot_training_log(
    logs: Log | Sequence[Log],
    out_png: StrPath,
    *,
    keys: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    smoothing: float = 0.9,
    title: str = '',
) -> Path:
    """Plots losses, learning rate and AP of one or more runs, one panel a scalar.

    Losses are drawn smoothed over the faint values of the log, and a legend says so; metrics as
    points joined by lines.

    Args:
        logs: a run (work dir, ``scalars.json``, or list of records), or a list of runs.
        out_png: written whole or not at all.
        keys: names or shell patterns of the scalars to plot, such as ``loss`` or ``d*.loss_cls``;
            by default the total loss, its terms of the last layer, the learning rate and AP.
        labels: names of the runs; their folders by default.
        smoothing: weight of the moving average of losses, 0 for none.
        title: a line above the panels.

    Returns:
        ``out_png``.

    Raises:
        FileNotFoundError: a run has no log.
        ValueError: nothing to plot, or labels and runs differ in number.
    """
    runs = _as_runs(logs)
    if labels is not None and len(labels) != len(runs):
        raise ValueError(f'{len(labels)} labels for {len(runs)} runs')
    names = labels if labels is not None else [_run_name(run, i) for i, run in enumerate(runs)]
    curves = [extract_curves(load_records(run)) for run in runs]
    chosen = _choose(list(dict.fromkeys(key for run in curves for key in run)), keys)
    figure, panels = _grid(len(chosen), title)
    for panel, key in zip(panels, chosen, strict=True):
        for index, run in enumerate(curves):
            if key in run:
                color = _COLORS[index % len(_COLORS)]
                _plot(panel, run[key], color, names[index], _weight(key, smoothing))
        _style(panel, key)
    # validation starts late, so panels would otherwise differ in their span
    start, end = min(p.dataLim.xmin for p in panels), max(p.dataLim.xmax for p in panels)
    margin = 0.03 * (end - start) or 1.0
    for panel in panels:
        panel.set_xlim(start - margin, end + margin)
    handles = _run_handles(panels) if len(runs) > 1 else {}
    if any(_weight(key, smoothing) > 0 for key in chosen):
        handles |= _SMOOTHING_HANDLES
    if handles:
        _add_legend(figure, handles)
    with whole_file(out_png) as temporary:
        figure.savefig(temporary, dpi=130)
    return Path(out_png)


def _read_lines(path: Path) -> list[Record]:
    lines = path.read_text(encoding='utf-8').splitlines()
    records: list[Record] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f'{path}, line {number}: not a json object: {error}') from None
        if not isinstance(record, dict):
            raise ValueError(f'{path}, line {number}: expected a json object')
        records.append(record)
    return records


def _is_training(record: Record) -> bool:
    return 'loss' in record or 'lr' in record or 'base_lr' in record


def _step(record: Record) -> float:
    step = record.get('step', record.get('iter', 0))
    return float(step) if isinstance(step, int | float) else 0.0


def _epoch_ends(records: Iterable[Record]) -> dict[float, float]:
    """Last iteration of each epoch; empty where training counts iterations only."""
    ends: dict[float, float] = {}
    for record in records:
        if _is_training(record) and 'epoch' in record:
            epoch = float(record['epoch'])
            ends[epoch] = max(ends.get(epoch, 0.0), _step(record))
    return ends


def _as_runs(logs: Log | Sequence[Log]) -> list[Any]:
    if isinstance(logs, str | os.PathLike):
        return [logs]
    if not logs:
        raise ValueError('no log to plot')
    return [logs] if isinstance(logs[0], Mapping) else list(logs)


def _run_name(run: Log, index: int) -> str:
    if not isinstance(run, str | os.PathLike):
        return f'run {index + 1}'
    path = Path(run).resolve()
    # <work_dir>/<timestamp>/vis_data/scalars.json
    return path.parents[2].name if path.name == 'scalars.json' else path.name


def _choose(available: Sequence[str], patterns: Sequence[str] | None) -> list[str]:
    if patterns is not None:
        chosen = [k for p in patterns for k in available if fnmatchcase(k, p)]
    else:
        losses = [k for k in available if 'loss' in k and k != 'loss' and not _LAYER_TERM.search(k)]
        chosen = [k for k in ('loss', *losses, 'lr') if k in available]
        chosen += sorted(k for k in available if _AP.search(k))
    if not chosen:
        wanted = '' if patterns is None else f' matches {list(patterns)}'
        raise ValueError(f'no scalar{wanted} to plot; the logs have {sorted(available)}')
    return list(dict.fromkeys(chosen))


def _grid(number: int, title: str) -> tuple[Figure, list[Axes]]:
    columns = min(number, 4 if number > 6 or number == 4 else 3)
    rows = -(-number // columns)
    figure = Figure(figsize=(4.2 * columns, 2.9 * rows + 0.4), layout='constrained')
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, fontsize=13, fontweight='bold')
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(number)]


_RAW: Mapping[str, Any] = dict(alpha=0.22, linewidth=0.9)
_SMOOTH: Mapping[str, Any] = dict(linewidth=1.6)
_SMOOTHING_HANDLES: Mapping[str, Artist] = {
    'as logged': Line2D([], [], color=_COLORS[-1], **_RAW),
    'smoothed': Line2D([], [], color=_COLORS[-1], **_SMOOTH),
}


def _run_handles(panels: Sequence[Axes]) -> dict[str, Artist]:
    """Of the runs in all panels, since a run may be missing in some."""
    handles: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    return handles


def _add_legend(figure: Figure, handles: Mapping[str, Artist]) -> None:
    """One legend below all panels."""
    figure.legend(
        list(handles.values()),
        list(handles),
        loc='outside lower center',
        ncols=min(4, len(handles)),
        frameon=False,
    )


def _weight(key: str, smoothing: float) -> float:
    return smoothing if 'loss' in key or key == 'grad_norm' else 0.0


def _plot(panel: Axes, curve: Curve, color: str, name: str, weight: float) -> None:
    if curve.is_metric:
        panel.plot(curve.steps, curve.values, color=color, marker='o', markersize=4, label=name)
        return
    if weight > 0:
        panel.plot(curve.steps, curve.values, color=color, **_RAW)
    panel.plot(curve.steps, smoothed(curve.values, weight), color=color, label=name, **_SMOOTH)


def _style(panel: Axes, key: str) -> None:
    panel.set_title(key, fontsize=10, loc='left')
    panel.set_xlabel('iteration', fontsize=8, color='#555555')
    panel.tick_params(labelsize=8, colors='#555555')
    panel.grid(alpha=0.25, linewidth=0.6)
    for side in ('top', 'right'):
        panel.spines[side].set_visible(False)
    for side in ('left', 'bottom'):
        panel.spines[side].set_color('#bbbbbb')
    if key == 'lr':
        panel.ticklabel_format(axis='y', scilimits=(-3, 4))
    if panel.dataLim.ymin >= 0 and (key == 'lr' or 'loss' in key or _AP.search(key)):
        panel.set_ylim(bottom=0)
