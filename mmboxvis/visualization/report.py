"""One HTML file that shows a test run: scores, curves, errors, its worst and best videos.

Everything is inside of the file, pictures too; it asks nothing of a server or of the network, and
its content security policy forbids it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from mmboxvis.evaluation.functional import (
    ERROR_KINDS,
    ClassScores,
    ErrorAnalysis,
    GroundTruth,
    VISEvaluation,
    load_json,
    read_ground_truth,
    read_results,
)
from mmboxvis.evaluation.functional.layout import Entry, IouType, Source
from mmboxvis.evaluation.functional.tracks import result_tracks
from mmboxvis.files import StrPath, unique_name, whole_file
from mmboxvis.version import __version__

from ._report_clips import ClipOptions, make_clips
from .curves import extract_curves, load_records, smoothed

_TILES = (
    'AP',
    'AP_50',
    'AP_75',
    'AR_1',
    'AR_10',
    'AR_100',
    'AP_s',
    'AP_m',
    'AP_l',
    'AP_so',
    'AP_mo',
    'AP_ho',
)
_MAX_POINTS = 300
_LEVELS = {'IoU 0.50': slice(0, 1), 'IoU 0.75': slice(5, 6), 'mean of 0.50 to 0.95': slice(None)}


def write_report(
    image_root: StrPath,
    gt_json: StrPath | Mapping[str, Any],
    results_json: StrPath | Sequence[Mapping[str, Any]],
    out_html: StrPath,
    *,
    log: StrPath | None = None,
    title: str = 'Test run',
    num_videos: int = 3,
    score_thr: float = 0.3,
    frames_per_video: int = 24,
    clip_width: int = 320,
    iou_type: Literal['segm', 'box', 'auto'] = 'auto',
    class_agnostic: bool = False,
    videos: Sequence[str] | None = None,
) -> Path:
    """Writes the report of a test run.

    Videos are ranked by their own AP; those without an annotation are not shown.

    Args:
        image_root: folder that the ``file_names`` start from.
        gt_json: annotations in the YouTube-VIS layout, as a path or loaded.
        results_json: submission of the run.
        out_html: written whole or not at all.
        log: work dir or ``scalars.json`` of the training, whose curves are shown then.
        title: heading of the page.
        num_videos: how many of the worst and of the best videos are shown, at least 0.
        score_thr: results of a lower score are not drawn; the scores count all of them.
        frames_per_video: at most so many frames of a video, spread evenly.
        clip_width: width in pixels of the annotations' and of the results' picture.
        iou_type: what is compared, see :func:`~mmboxvis.evaluation.evaluate_vis`.
        class_agnostic: whether all categories are taken for one.
        videos: names of the only videos of the annotations to score and show.

    Returns:
        ``out_html``.

    Raises:
        FileNotFoundError: a file or a frame is missing.
        ValueError: something is wrong with an entry; names file, index and field.
    """
    if num_videos < 0 or frames_per_video < 1 or clip_width < 1:
        raise ValueError(
            'num_videos must be at least 0, frames_per_video and clip_width at least 1, got '
            f'{num_videos}, {frames_per_video} and {clip_width}'
        )
    options = ClipOptions(image_root, score_thr, frames_per_video, clip_width)
    scoring = Scoring(iou_type, class_agnostic, videos)
    page = _page(gt_json, results_json, num_videos, options, scoring)
    training = [] if log is None else _training_curves(log)
    html = _template().render(page, title=title, version=__version__, training=training)
    with whole_file(out_html) as temporary:
        temporary.write_text(html, encoding='utf-8')
    return Path(out_html)


@dataclass(frozen=True)
class Scoring:
    """What is scored; see :func:`write_report`."""

    iou_type: Literal['segm', 'box', 'auto'] = 'auto'
    class_agnostic: bool = False
    videos: Sequence[str] | None = None


def _page(
    gt_json: Any,
    results_json: Any,
    num_videos: int,
    options: ClipOptions,
    scoring: Scoring = Scoring(),
) -> dict[str, Any]:
    """What the template asks for, but for title, version and training."""
    truth = read_ground_truth(gt_json)
    if scoring.videos is not None:
        truth = truth.only(scoring.videos)
    # from the file, so that a message about an entry names it
    evaluation = VISEvaluation.run(
        truth,
        results_json,
        iou_type=scoring.iou_type,
        class_agnostic=scoring.class_agnostic,
    )
    entries, source = read_results(results_json)
    if scoring.class_agnostic:
        gt_json, truth, entries = _as_one_class(gt_json, truth, entries, evaluation.iou_type)
    analysis = ErrorAnalysis.run(truth, entries, iou_type=evaluation.iou_type)
    chosen = _chosen(rank_videos(truth, entries, evaluation.iou_type), num_videos)
    return dict(
        sources=dict(annotations=truth.source, results=source),
        numbers=dict(
            videos=len(truth.videos), annotated=len(truth.annotations or ()), results=len(entries)
        ),
        iou_type='masks' if evaluation.iou_type == 'segm' else 'boxes',
        tiles={name: evaluation.metrics[name] for name in _TILES if name in evaluation.metrics},
        classes=_class_rows(evaluation),
        errors=_error_rows(analysis),
        precision=_precision_curves(evaluation),
        score_thr=options.score_thr,
        videos=make_clips(gt_json, entries, chosen, analysis, options),
    )


def _as_one_class(
    gt_json: Any, truth: GroundTruth, entries: Sequence[Entry], iou_type: IouType
) -> tuple[dict[str, Any], GroundTruth, list[Entry]]:
    """Checked annotations and results with all categories as one.

    Results with the same shapes become one with the best of their scores, as they do where they
    are scored.
    """

    def renamed(annotations: Any) -> list[dict[str, Any]]:
        return [dict(annotation, category_id=1) for annotation in annotations or ()]

    content = load_json(gt_json) if isinstance(gt_json, Source) else gt_json
    content = dict(
        content,
        categories=[dict(id=1, name='object')],
        annotations=renamed(content['annotations']),
    )
    truth = replace(truth, categories={1: 'object'}, annotations=renamed(truth.annotations))
    by_video = result_tracks(entries, iou_type)  # holds the shapes, so that their ids stay theirs
    tracks = {key: iter(found) for key, found in by_video.items()}
    best: dict[int, Entry] = {}
    for entry in entries:
        track = next(tracks[entry['video_id']])
        key = id(track.shapes)
        if key not in best or track.score > best[key]['score']:
            best[key] = dict(entry, category_id=1)
    return content, truth, list(best.values())


def rank_videos(
    truth: GroundTruth,
    entries: Sequence[Mapping[str, Any]],
    iou_type: Literal['segm', 'box', 'auto'] = 'auto',
) -> list[tuple[int, float]]:
    """Videos that have an annotation, worst first, each with the AP it has by itself.

    Args:
        truth: the annotations.
        entries: the results.
        iou_type: what is compared.

    Returns:
        (video id, AP in [0, 1]); videos with equal AP in ascending order of id.
    """
    annotated: dict[int, list[Any]] = defaultdict(list)
    predicted: dict[int, list[Any]] = defaultdict(list)
    for grouped, tracks in ((annotated, truth.annotations or ()), (predicted, entries)):
        for track in tracks:
            grouped[track['video_id']].append(track)
    ranked = []
    for video_id, video in truth.videos.items():
        alone = GroundTruth(truth.source, {video_id: video}, truth.categories, annotated[video_id])
        ap = VISEvaluation.run(alone, predicted[video_id], iou_type=iou_type).metrics['AP']
        if ap >= 0:
            ranked.append((video_id, ap))
    return sorted(ranked, key=lambda item: item[1])


def _chosen(ranked: Sequence[tuple[int, float]], number: int) -> list[tuple[str, int, float]]:
    """Worst and best videos, none of them twice."""
    worst = ranked[:number]
    best = ranked[len(worst) :][-number:][::-1] if number else []
    return [('worst', *video) for video in worst] + [('best', *video) for video in best]


def _class_rows(evaluation: VISEvaluation) -> list[ClassScores]:
    """Classes with an annotation or a prediction, best first."""
    shown = [c for c in evaluation.per_class if c.num_truth or c.num_results]
    return sorted(shown, key=lambda c: -c.metrics['AP'])


def _error_rows(analysis: ErrorAnalysis) -> list[dict[str, Any]]:
    return [
        dict(
            kind=kind.replace('_', ' '),
            number=int(analysis.counts[kind][0]),
            # rounding may leave a gain of -0.0
            gain=abs(round(float(analysis.gains[kind].mean()), 9)),
            gain_50=abs(round(float(analysis.gains[kind][0]), 9)),
        )
        for kind in ERROR_KINDS
    ]


def _precision_curves(evaluation: VISEvaluation) -> dict[str, dict[str, list[float]]]:
    """Precision at 101 points of recall, by class ('' is their mean) and threshold.

    Where several classes have one name, their ids tell them apart.
    """
    curves: dict[str, np.ndarray] = {}
    for key, curve in evaluation.curves.items():
        if curve.num_truth[0]:
            name = unique_name(evaluation.categories[key], ['', *curves], key)
            curves[name] = curve.precision[0]
    if not curves:
        return {}
    means = {'': np.mean(list(curves.values()), axis=0)} | curves
    return {
        name: {level: precision[part].mean(0).round(4).tolist() for level, part in _LEVELS.items()}
        for name, precision in means.items()
    }


def _training_curves(log: StrPath) -> list[dict[str, Any]]:
    """Total loss, its terms of the last layer, and AP, thinned out for the page.

    Where several sets were scored, the names of the curves tell which.
    """
    charts: dict[str, dict[str, list]] = {'loss': {}, 'AP': {}}
    found = extract_curves(load_records(log))
    scores = [
        key
        for key, curve in found.items()
        if curve.is_metric and key.rpartition('/')[2] in ('AP', 'AP_50', 'AP_75')
    ]
    are_of_one_set = len({key.rpartition('/')[0] for key in scores}) <= 1
    for key, curve in found.items():
        is_loss = key == 'loss' or key.startswith('loss_')
        if not is_loss and key not in scores:
            continue
        name = key.rpartition('/')[2] if key in scores and are_of_one_set else key
        values = smoothed(curve.values, 0.9) if is_loss else curve.values
        kept = np.unique(np.linspace(0, len(values) - 1, _MAX_POINTS).round().astype(int))
        points = [curve.steps[kept].tolist(), values[kept].round(5).tolist()]
        charts['loss' if is_loss else 'AP'][name] = points
    return [dict(name=name, series=series) for name, series in charts.items() if series]


def _template() -> Any:
    environment = Environment(
        loader=PackageLoader('mmboxvis.visualization', 'templates'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['percent'] = lambda value: '-' if value < 0 else f'{100 * value:.1f}'
    return environment.get_template('report.html')
