r"""Trains and scores the rows of a study, several seeds each, and draws table and plots.

Each run is a training through ``tools/train.py`` and a test through ``tools/test.py``. It leaves
``OUT/STUDY_SET/ROW/seed_S/run.json``; a run whose file is there is not run again, nor is one that
another row of a study in ``OUT`` shares, and one that was broken off goes on from its newest
checkpoint. So the same command continues, adds seeds, or, with
``--report-only``, draws what there is.

Example:
    python tools/analysis_tools/run_ablation.py table4 --set toyvis-hard --seeds 0 1 2 --jobs 2

The sets that end in ``-started`` start all rows from weights that are trained first, once, into
``OUT/start/CONFIG``. On the sets of folds, which leave videos out of training to score on them, the
seed s runs fold s. A config may name further sets to score on in ``more_tests``, each with its
``dataset`` and ``evaluator``. On drawn videos ``--more-videos 200`` scores every run on so many
validation videos besides, also one that was done before: with the 30 of a set, chance in what they
show is as large as the paper's differences, and the same for all seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ablation_report import write_report
from ablation_studies import ROOT, SETS, STUDIES, Row, row_config, study_rows
from mmengine.config import Config

from mmboxvis._cli import UsageError, schedule_options, write_json
from mmboxvis.datasets.toyvis import generate_toyvis
from mmboxvis.evaluation.functional import GroundTruth, mean_best_iou, read_ground_truth
from mmboxvis.visualization.curves import extract_curves, load_records


@dataclass(frozen=True)
class Start:
    """A training whose weights the runs of a set start from.

    Attributes:
        source: its config.
        out: of all studies.
    """

    source: Path
    out: Path

    @property
    def label(self) -> str:
        """For messages."""
        return self.source.stem

    @property
    def folder(self) -> Path:
        """Of the training."""
        return self.out / 'start' / self.source.stem

    @property
    def weights(self) -> Path:
        """The checkpoint of its last step; there when the training is done."""
        return self.folder / f'iter_{self.config().train_cfg.max_iters}.pth'

    def config(self) -> Config:
        """The config as it is in its file."""
        return Config.fromfile(self.source)

    def train(self, threads: int) -> None:
        """Trains, unless that is done.

        Raises:
            UsageError: If the training fails, or the folder holds one with other settings.
        """
        config = _write_config(self.folder, self.config())
        if self.weights.is_file():
            return
        _tool(self, threads, 'train.py', config, '--work-dir', self.folder, '--resume')
        print(f'{self.label}: trained', flush=True)


@dataclass(frozen=True)
class Run:
    """One training of one row.

    Attributes:
        study: key of :data:`STUDIES`.
        data: key of :data:`SETS`.
        row: what is trained.
        seed: of initialisation, sampling and augmentation.
        max_iters: steps, or ``None`` for the config's.
        folder: of this run.
        more_videos: drawn to score on besides; 0 for none.
    """

    study: str
    data: str
    row: Row
    seed: int
    max_iters: int | None
    folder: Path
    more_videos: int = 0

    @property
    def label(self) -> str:
        """For messages."""
        return f'{self.row.name}, seed {self.seed}'

    @property
    def result(self) -> Path:
        """The file that says the run is done."""
        return self.folder / 'run.json'

    @property
    def out(self) -> Path:
        """The folder of all studies."""
        return self.folder.parents[2]

    @property
    def start(self) -> Start | None:
        """What it starts from; ``None`` for nothing."""
        source = SETS[self.data].start
        return None if source is None else Start(ROOT / source, self.out)

    def config(self) -> Config:
        """The config of the run: the data set's, with the changes of the row."""
        cfg = row_config(self.data, self.row, self.seed)
        cfg.merge_from_dict({'randomness.seed': self.seed})
        if self.max_iters is not None:
            cfg.merge_from_dict(schedule_options(cfg, self.max_iters))
        if self.start is not None:
            cfg.load_from = str(self.start.weights.resolve())
        cfg.work_dir = str(self.folder)
        return cfg


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('study', choices=sorted(STUDIES))
    parser.add_argument('--set', dest='data', choices=sorted(SETS), default='toyvis-hard')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--rows', nargs='+', metavar='ROW', help='only these rows; default: all')
    parser.add_argument('--max-iters', type=int, help="steps a run; default: the config's")
    parser.add_argument('--jobs', type=int, choices=(1, 2), default=1, help='runs at a time')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads a run')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/ablation'), metavar='DIR')
    parser.add_argument(
        '--more-videos', type=int, default=0, metavar='N', help='score on N drawn videos besides'
    )
    parser.add_argument('--report-only', action='store_true', help='train nothing')
    return parser.parse_args(argv)


def plan(args: argparse.Namespace) -> list[Run]:
    """Lists the runs that the command line asks for, a seed of every row before the next seed.

    Raises:
        UsageError: If a row is not in the study, or the study does not run on the set.
    """
    study = STUDIES[args.study]
    if study.sets and args.data not in study.sets:
        raise UsageError(f'{args.study} runs on --set {" or ".join(study.sets)}, not {args.data}')
    chosen = study_rows(args.study, args.rows)
    folder = args.out / f'{args.study}_{args.data}'
    return [
        Run(
            args.study,
            args.data,
            row,
            seed,
            args.max_iters,
            folder / _slug(row.name) / f'seed_{seed}',
            args.more_videos,
        )
        for seed in args.seeds
        for row in chosen
    ]


def _slug(name: str) -> str:
    return '-'.join(''.join(c if c.isalnum() else ' ' for c in name).split()).lower()


def execute(run: Run, threads: int) -> str:
    """Trains and scores one run, unless that is done.

    Returns:
        One line on how it went.

    Raises:
        UsageError: If a tool fails, or the folder holds a run with other settings.
    """
    cfg = run.config()
    config = _write_config(run.folder, cfg)
    if run.result.is_file():
        return f'{run.label}: there already{_score_more(run, cfg, threads)}'
    twin = next(
        (folder for folder in _same_runs(run, cfg) if (folder / 'run.json').is_file()), None
    )
    if twin is not None:
        record = json.loads((twin / 'run.json').read_text())
        own = dict(study=run.study, row=run.row.name, options=dict(run.row.options))
        write_json(run.result, {**record, **own, 'run_as': f'{record["study"]}, {record["row"]}'})
        more = _score_more(run, cfg, threads)
        return f'{run.label}: the run of {record["study"]}, {record["row"]}{more}'
    start = time.perf_counter()
    resume = ['--resume'] if (run.folder / 'last_checkpoint').is_file() else []
    _tool(run, threads, 'train.py', config, '--work-dir', run.folder, *resume)
    seconds = time.perf_counter() - start
    checkpoint = _checkpoint(run.folder)
    metrics = _score(run, cfg, config, checkpoint, threads)
    for name, test in cfg.get('more_tests', {}).items():
        cfg.test_dataloader.dataset, cfg.test_evaluator = test.dataset, test.evaluator
        config = run.folder / 'row' / f'{name}.py'
        config.write_text(cfg.pretty_text)
        scores = _score(run, cfg, config, checkpoint, threads, name)
        metrics.update({f'{name}/{key}': value for key, value in scores.items()})
    write_json(run.result, _record(run, cfg, metrics, seconds, resumed=bool(resume)))
    scores = f'AP {metrics["AP"]:.3f}, AP_50 {metrics["AP_50"]:.3f}'
    return f'{run.label}: {scores}, {seconds:.0f} s{_score_more(run, cfg, threads)}'


def _checkpoint(folder: Path) -> str:
    """The newest of a run, also of one that was moved."""
    named = Path((folder / 'last_checkpoint').read_text().strip())
    return str(folder / named.name if (folder / named.name).is_file() else named)


def _score_more(run: Run, cfg: Config, threads: int) -> str:
    """Scores a run that is done on more drawn videos, unless that is done or not wanted.

    Returns:
        What to add to the line on how it went.

    Raises:
        UsageError: If the set is not drawn, or the checkpoint is gone.
    """
    if not run.more_videos:
        return ''
    name = f'{run.more_videos} videos'
    record = json.loads(run.result.read_text())
    if f'{name}/AP' not in record['metrics']:
        folders = (run.folder, *_same_runs(run, cfg))
        trained = [folder for folder in folders if (folder / 'last_checkpoint').is_file()]
        if not trained:
            raise UsageError(f'{run.label}: there is no checkpoint left to score more videos with')
        more = _with_more_videos(cfg, run)
        config = run.folder / 'row' / 'more_videos.py'
        config.write_text(more.pretty_text)
        scores = _score(run, more, config, _checkpoint(trained[0]), threads, 'more_videos')
        record['metrics'].update({f'{name}/{key}': value for key, value in scores.items()})
        write_json(run.result, record)
    return f'; {name}: AP {record["metrics"][f"{name}/AP"]:.3f}'


def _with_more_videos(cfg: Config, run: Run) -> Config:
    """Tests on as many validation videos of the drawn set as wanted, none of them left out.

    Raises:
        UsageError: If the set is not drawn.
    """
    cfg = cfg.copy()
    dataset = dict(cfg.test_dataloader.dataset)
    if dataset.get('generate') is None:
        raise UsageError(f'--more-videos: {run.data} is no drawn set')
    dataset.pop('videos', None)
    settings = dict(dataset['generate'], num_train=0, num_val=run.more_videos)
    root = run.out.resolve() / f'{Path(dataset["data_root"]).name}_{run.more_videos}_videos'
    dataset.update(data_root=str(root), split='val', generate=settings)
    evaluator = dict(cfg.test_evaluator, ann_file=str(root / 'val/instances.json'))
    evaluator.pop('videos', None)
    cfg.test_dataloader.dataset, cfg.test_evaluator = dataset, evaluator
    # before two runs want it at once
    generate_toyvis(root, **settings)
    return cfg


def _write_config(folder: Path, cfg: Config) -> Path:
    """Writes the config of a training to a folder of its own in ``folder``.

    The runner writes the config it ended up with beside its log.

    Raises:
        UsageError: If the folder holds a training with other settings.
    """
    path = folder / 'row' / 'config.py'
    if path.is_file() and path.read_text() != cfg.pretty_text:
        raise UsageError(
            f'{folder} holds a run with other settings; remove it, or choose another --out'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(cfg.pretty_text)
    return path


def _score(
    run: Run, cfg: Config, config: Path, checkpoint: str, threads: int, name: str = ''
) -> dict[str, Any]:
    """Scores a checkpoint on the test set of ``cfg``, which ``config`` holds.

    Args:
        run: whose folder takes the results.
        cfg: names the test set.
        config: the file of ``cfg``.
        checkpoint: to test.
        threads: CPU threads.
        name: of a further test set; its files are called after it.

    Returns:
        The metrics of ``tools/test.py`` and the mean IoU of all and of the fast objects.
    """
    end = f'_{name}' if name else ''
    results, scores = run.folder / f'results{end}.json', run.folder / f'metrics{end}.json'
    outputs = ('--out', results, '--metrics-out', scores)
    work_dir = run.folder / f'test{end}'
    _tool(run, threads, 'test.py', config, checkpoint, '--work-dir', work_dir, *outputs)
    metrics = json.loads(scores.read_text())
    truth = _truth(cfg)
    metrics['mean_best_iou'] = mean_best_iou(truth, results).mean
    metrics['fast_best_iou'] = mean_best_iou(fast_objects(truth), results).mean
    return metrics


def _same_runs(run: Run, cfg: Config) -> Iterator[Path]:
    """Folders of rows of this or another study that are the same run."""

    def settings(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith('work_dir = ')]

    wanted = settings(cfg.pretty_text)
    for config in sorted(run.out.glob(f'*_{run.data}/*/seed_{run.seed}/row/config.py')):
        if config.parents[1] != run.folder and settings(config.read_text()) == wanted:
            yield config.parents[1]


def run_all(runs: Sequence[Run], jobs: int, threads: int) -> None:
    """Trains and scores all runs; one that fails is told at once and keeps no other from running.

    Raises:
        UsageError: If what they start from could not be trained; at the end, if a run failed.
    """
    failed = 0
    for start in dict.fromkeys(run.start for run in runs):
        if start is not None:
            start.train(threads)
    with ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(execute, run, threads) for run in runs]):
            try:
                print(future.result(), flush=True)
            except UsageError as error:
                failed += 1
                print(f'run_ablation.py: {error}', file=sys.stderr, flush=True)
    if failed:
        raise UsageError(
            f'{failed} of {len(runs)} runs failed, see above; the same command runs them again'
        )


def _truth(cfg: Config) -> GroundTruth:
    """What the results of a run are scored against."""
    truth = read_ground_truth(ROOT / cfg.test_evaluator.ann_file)
    videos = cfg.test_evaluator.get('videos')
    return truth if videos is None else truth.only(videos)


def fast_objects(truth: GroundTruth, share: float = 1 / 3) -> GroundTruth:
    """Keeps the fastest objects alone.

    The speed of an object is the way of its box's centre from a frame to the next over the root of
    the box's area, averaged over the frames.

    Args:
        truth: with boxes.
        share: of the objects that move at all between two frames, in (0, 1].
    """
    annotations = truth.annotations or []
    speeds = np.array([_speed(entry['bboxes']) for entry in annotations])
    known = np.sort(speeds[~np.isnan(speeds)])
    if not len(known):
        return replace(truth, annotations=[])
    least = known[-max(round(share * len(known)), 1)]
    return replace(truth, annotations=[a for a, v in zip(annotations, speeds) if v >= least])


def _speed(boxes: Sequence[Sequence[float] | None]) -> float:
    """In sizes of the object a frame, of xywh boxes; nan without two frames in a row."""
    x, y, width, height = np.array([[np.nan] * 4 if box is None else box for box in boxes]).T
    way = np.hypot(np.diff(x + width / 2), np.diff(y + height / 2))
    sizes = way / np.sqrt(width * height)[1:]
    sizes = sizes[np.isfinite(sizes)]
    return float(sizes.mean()) if len(sizes) else math.nan


def _tool(run: Run | Start, threads: int, name: str, *arguments: str | os.PathLike[str]) -> None:
    """Runs one of the tools with its output in the run's ``output.log``."""
    env = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'MKL_NUM_THREADS': str(threads)}
    env['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), env.get('PYTHONPATH')]))
    command = [sys.executable, str(ROOT / 'tools' / name), *map(_absolute, arguments)]
    log = run.folder / 'output.log'
    with log.open('a') as stream:
        code = subprocess.run(
            command, cwd=ROOT, env=env, stdout=stream, stderr=subprocess.STDOUT
        ).returncode
    if code:
        last = log.read_text(errors='replace').strip().splitlines()[-1:]
        raise UsageError(f'{run.label}: {name} failed: {last}; see {log}')


def _absolute(argument: str | os.PathLike[str]) -> str:
    return str(argument.resolve()) if isinstance(argument, Path) else str(argument)


def _record(
    run: Run, cfg: Config, metrics: Mapping[str, Any], seconds: float, *, resumed: bool
) -> dict[str, Any]:
    """What is kept of a run; with the loss curve, so that the work folder can go."""
    return dict(
        study=run.study,
        data=run.data,
        row=run.row.name,
        seed=run.seed,
        max_iters=int(cfg.train_cfg.max_iters),
        options=dict(run.row.options),
        pixels=run.row.pixels,
        start=None if run.start is None else run.start.label,
        metrics=dict(metrics),
        train_seconds=None if resumed else round(seconds, 1),
        commit=_commit(),
        curves=_loss_curves(run.folder),
    )


def _loss_curves(folder: Path) -> dict[str, list[list[float]]]:
    """Steps and values of what was logged; nothing where a run was shorter than the interval."""
    try:
        curves = extract_curves(load_records(folder))
    except FileNotFoundError:
        return {}
    return {
        name: [curve.steps.tolist(), curve.values.tolist()]
        for name, curve in curves.items()
        if '.' not in name.removeprefix('vis/') and name != 'lr'
    }


def _commit() -> str | None:
    """The commit the code is at, with a ``+`` where files differ from it; ``None`` outside git."""
    if shutil.which('git') is None:
        return None
    found = subprocess.run(
        ['git', 'describe', '--always', '--dirty=+'], cwd=ROOT, capture_output=True, text=True
    )
    return found.stdout.strip() or None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the study; returns the exit status."""
    args = parse_args(argv)
    try:
        runs = plan(args)
        if not args.report_only:
            run_all(runs, args.jobs, args.threads)
        table = write_report(STUDIES[args.study], runs[0].folder.parents[1])
    except UsageError as error:
        print(f'run_ablation.py: error: {error}', file=sys.stderr)
        return 1
    print(f'\n{table}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
