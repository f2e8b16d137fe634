"""Test a checkpoint: ``python tools/test.py CONFIG CHECKPOINT [--out FILE.json] ...``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.evaluation import MultiDatasetsEvaluator
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mmboxvis._cli import (
    UsageError,
    add_common_arguments,
    build_runner,
    leave_processes,
    load_config,
    one_line_errors,
    require_checkpoint,
    require_fit,
    write_json,
)
from mmboxvis.evaluation import VISMetric
from mmboxvis.files import ImageRoot, require_writable


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, like that of mmdet's ``tools/test.py``."""
    parser = argparse.ArgumentParser(description='Test a checkpoint and score it')
    add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    parser.add_argument(
        '--out',
        metavar='FILE.json',
        help='write the results as a benchmark server takes them: FILE.json, and FILE.zip of it',
    )
    parser.add_argument(
        '--format-only',
        action='store_true',
        help='write the results and score nothing; default for --out: WORK_DIR/results.json',
    )
    parser.add_argument(
        '--show-dir', metavar='DIR', help='write each video with its tracks drawn, into DIR'
    )
    parser.add_argument(
        '--report',
        metavar='FILE.html',
        help='write a page with scores, curves, errors and clips; it needs no server',
    )
    parser.add_argument('--metrics-out', metavar='FILE.json', help='default: WORK_DIR/metrics.json')
    return parser.parse_args(argv)


def merge_args(args: argparse.Namespace) -> Config:
    """Return the config that the command line asks for.

    Raises:
        UsageError: If a file is missing, or the config lacks what an argument needs.
    """
    cfg = load_config(args)
    require_checkpoint(args.checkpoint)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.report is not None and args.out is None:
        args.out = str(Path(cfg.work_dir) / 'results.json')
    write_results(cfg, args.out, args.format_only)
    metrics = list(vis_metrics(cfg.get('test_evaluator')))
    unscored = [metric for metric in metrics if metric.get('format_only')]
    if args.report is not None and unscored:
        raise UsageError('--report needs scores, and --format-only, or the config, asks for none')
    if args.metrics_out is not None and len(unscored) == len(evaluators(cfg.get('test_evaluator'))):
        raise UsageError(
            '--metrics-out needs scores, and --format-only, or the config, asks for none'
        )
    if args.show_dir is not None:
        show_videos(cfg, args.show_dir)
    return cfg


def write_results(cfg: Config, out: str | None, format_only: bool) -> None:
    """Make the metric write its results to ``out``.

    Args:
        cfg: Changed where needed.
        out: Path that ends in ``.json``, or ``None`` for the config's own choice.
        format_only: Write only; without ``out`` to ``results.json`` in the work folder.

    Raises:
        UsageError: If ``out`` has another ending, or no evaluator of the config is a VISMetric.
    """
    if out is None and not format_only:
        return
    if out is not None and not out.endswith('.json'):
        raise UsageError(f'--out {out}: the results are json, so the name has to end in .json')
    metrics = list(vis_metrics(cfg.get('test_evaluator')))
    if not metrics:
        raise UsageError('--out and --format-only need a VISMetric as test_evaluator')
    taken: set[str] = set()
    for number, metric in enumerate(metrics):
        prefix = out[: -len('.json')] if out else metric.get('outfile_prefix')
        prefix = prefix or str(Path(cfg.work_dir) / 'results')
        metric['outfile_prefix'] = f'{prefix}_{number}' if prefix in taken else prefix
        taken.add(metric['outfile_prefix'])
        # a config of an official set, whose truth is not public, has it already
        metric['format_only'] = format_only or metric.get('format_only', False)


def evaluators(evaluator: Any) -> list[Any]:
    """Return the configs of the metrics in an evaluator's config."""
    if isinstance(evaluator, Mapping) and 'metrics' in evaluator:
        evaluator = evaluator['metrics']
    return [evaluator] if isinstance(evaluator, Mapping) else list(evaluator or ())


def vis_metrics(evaluator: Any) -> Iterator[Any]:
    """Yield the configs of type VISMetric in an evaluator's config."""
    for metric in evaluators(evaluator):
        kind = metric.get('type')  # a name, or the class itself in a lazy config
        if str(getattr(kind, '__name__', kind)).rpartition('.')[2] == 'VISMetric':
            yield metric


def show_videos(cfg: Config, folder: str) -> None:
    """Have the tested videos drawn into ``folder``, by the config's own hook if it has one."""
    hooks = list(cfg.get('custom_hooks') or [])
    for hook in hooks:
        if hook.get('type') == 'VideoOverlayHook':
            hook['out_dir'] = folder
            break
    else:
        hooks.append({'type': 'VideoOverlayHook', 'out_dir': folder})
    cfg.custom_hooks = hooks


def check_parts(runner: Runner, args: argparse.Namespace) -> None:
    """Build data set and metrics, and check that they fit together and all files can be written.

    Raises:
        UsageError: If the config tests nothing, a file cannot be written, or the report has no
            folder to draw from.
        AnnotationError: If an annotation file is broken or not that of the data set.
    """
    if runner.test_loop is None:
        raise UsageError(f'{args.config} has no test_dataloader, test_cfg and test_evaluator')
    dataset = runner.test_loop.dataloader.dataset
    if args.report is not None:
        image_folder(dataset)
    for path in filter(None, (args.metrics_out, args.report)):
        try:
            require_writable(path)
        except OSError as error:
            raise UsageError(str(error)) from error
    metrics = runner.test_loop.evaluator.metrics
    by_part = isinstance(runner.test_loop.evaluator, MultiDatasetsEvaluator)
    for metric, part in zip(metrics, dataset.datasets if by_part else [dataset] * len(metrics)):
        if isinstance(metric, VISMetric) and hasattr(part, 'get_data_info'):
            metric.require_videos([part.get_data_info(index) for index in range(len(part))])


def image_folder(dataset: Any) -> ImageRoot:
    """Return the folder that the frames of a data set, or of all its parts, are in.

    Raises:
        UsageError: If it tells none, or its parts are in several.
    """
    parts = getattr(dataset, 'datasets', [dataset])
    folders = {getattr(part, 'data_prefix', {}).get('img') for part in parts} - {None}
    if len(folders) != 1:
        raise UsageError(
            '--report draws the frames of one image folder, and the test set has '
            f'{" and ".join(sorted(folders)) or "none"}; draw the written results with '
            'tools/analysis_tools/html_report.py'
        )
    linked = {folder for part in parts for folder in getattr(part, 'linked', ())}
    return ImageRoot(folders.pop(), sorted(linked))


def report(runner: Runner, path: str, title: str) -> None:
    """Write the HTML report of the results that the first VISMetric has written.

    Args:
        runner: After the test.
        path: Of the page.
        title: Its heading.
    """
    # only here: drawing takes libraries that a test does not need
    from mmboxvis.visualization import write_report

    metric = next(m for m in runner.test_evaluator.metrics if isinstance(m, VISMetric))
    write_report(
        image_folder(runner.test_dataloader.dataset),
        metric.ann_file,
        f'{metric.outfile_prefix}.json',
        path,
        title=title,
        iou_type=metric.iou_type,
        class_agnostic=metric.class_agnostic,
        videos=metric.videos,
    )
    print(f'Wrote {path}')


def main(argv: Sequence[str] | None = None) -> None:
    """Test."""
    args = parse_args(argv)
    with one_line_errors('test.py'):
        cfg = merge_args(args)
        runner = build_runner(cfg)
        require_fit(runner.model, args.checkpoint)
        check_parts(runner, args)
        start = time.perf_counter()
        scores = runner.test()
    seconds = time.perf_counter() - start
    if scores and is_main_process():
        target = args.metrics_out or str(Path(cfg.work_dir) / 'metrics.json')
        metrics = {name: float(value) for name, value in scores.items()}
        write_json(target, {**metrics, 'test_seconds': round(seconds, 2)})
        print('  '.join(f'{name} {value:.4f}' for name, value in metrics.items() if value >= 0))
        print(f'Wrote {target}')
        if args.report is not None:
            report(runner, args.report, Path(args.config).stem)
    leave_processes()


if __name__ == '__main__':
    main()
