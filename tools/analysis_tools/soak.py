"""Long haul: trains, tests and infers for long, and watches memory, files, threads, processes.

    python tools/analysis_tools/soak.py --out work_dirs/soak [--steps 2000] [--videos 200]

Three programs run one after another, each in a process of its own that is watched from outside:
``tools/train.py`` with validation in between, ``tools/test.py`` on all videos, and one
``VideoSegmenter`` that goes through the videos one by one. Writes ``soak.json``, ``soak.csv`` and
``soak.png`` into DIR; exits with 1 where something grew or stayed behind.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.config import Config

from mmboxvis._cli import write_json
from mmboxvis.apis import VideoSegmenter
from mmboxvis.datasets.toyvis import generate_toyvis
from mmboxvis.evaluation import check_submission
from mmboxvis.files import whole_file

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py'
SIZE = (64, 96)
WARM_UP = 0.2
"""Share of a program's time that does not count: caches fill, pools grow."""


@dataclass(frozen=True)
class Sample:
    """What a program and its children use at one moment.

    Attributes:
        seconds: since the program began.
        rss_mib: resident memory of the program itself.
        pss_mib: memory of the program and its children, shared pages counted once.
        files: open file handles of the program and its children.
        threads: of the program and its children.
        processes: the program and its children.
    """

    seconds: float
    rss_mib: float
    pss_mib: float
    files: int
    threads: int
    processes: int


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('work_dirs/soak'), metavar='DIR')
    parser.add_argument('--steps', type=int, default=2000, help='training steps')
    parser.add_argument('--val-every', type=int, default=100, metavar='STEPS')
    parser.add_argument('--videos', type=int, default=200, help='videos to test and to infer')
    parser.add_argument('--num-workers', type=int, default=1, help='of the training data')
    parser.add_argument('--every', type=float, default=1.0, metavar='SECONDS', help='of samples')
    parser.add_argument(
        '--tolerance', type=float, default=0.02, help='growth of memory that passes as none'
    )
    # what the watched program of the third part is started with
    parser.add_argument(
        '--infer', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help=argparse.SUPPRESS
    )
    return parser.parse_args(argv)


# ------------------------------------------------------------------ what is run


def write_config(args: argparse.Namespace, out: Path) -> Path:
    """Draws the videos and writes a config of the tiny network with one small clip a step."""
    data = generate_toyvis(
        out / 'data', num_train=40, num_val=args.videos, seed=5, size=SIZE, num_workers=2
    )
    cfg = Config.fromfile(BASE)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(data_root=str(data), generate=None)
    cfg.train_dataloader.update(
        batch_size=1, num_workers=args.num_workers, persistent_workers=args.num_workers > 0
    )
    cfg.val_dataloader.dataset.indices = min(4, args.videos)
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform['type'] == 'ClipResizeShortEdge':
            transform.update(short_edges=(SIZE[0],), max_long=SIZE[1])
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.pipeline = [dict(type='Resize', scale=SIZE[::-1], keep_ratio=True)]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(data / 'val/instances.json')
    cfg.val_evaluator.allow_missing = True
    shrink(cfg.model)
    cfg.train_cfg.update(max_iters=args.steps, val_interval=args.val_every)
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.update(interval=args.val_every, max_keep_ckpts=2)
    cfg.default_hooks.logger.update(interval=args.val_every)
    path = out / 'soak_config.py'
    cfg.dump(path)
    return path


def shrink(model: Any) -> None:
    """Makes a network of the smallest width that still has every part."""
    network, width = model.network, 32
    network.backbone.update(base_channels=8, stem_channels=8)
    head = network.track_head
    head.update(in_channels=[8, 16, 32, 64], feat_channels=width, out_channels=width)
    head.positional_encoding.num_feats = head.pixel_decoder.positional_encoding.num_feats = 16
    head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 1
    for layers in (head.pixel_decoder.encoder, head.transformer_decoder):
        for part in layers.layer_cfg.values():
            part.embed_dims = width
            if 'feedforward_channels' in part:
                part.feedforward_channels = width
    for part in (model.criterion.assigner, model.criterion.loss_pseudo):
        part.num_points = 64


def commands(args: argparse.Namespace, out: Path, config: Path) -> dict[str, list[str]]:
    """Name and command line of each program."""
    checkpoint = str(out / 'train' / f'iter_{args.steps}.pth')
    python = [sys.executable]
    return {
        'train': [
            *python, str(ROOT / 'tools/train.py'), str(config), '--work-dir', str(out / 'train'),
        ],
        'test': [
            *python, str(ROOT / 'tools/test.py'), str(config), checkpoint,
            '--work-dir', str(out / 'test'), '--out', str(out / 'test/results.json'),
        ],
        'infer': [
            *python, __file__, '--out', str(out), '--infer', str(config), checkpoint,
        ],
    }  # fmt: skip


def infer(config: str, checkpoint: str, out: Path) -> None:
    """Goes through all videos with one segmenter and writes a result file for each."""
    segmenter = VideoSegmenter(config, checkpoint)
    folders = sorted((out / 'data/val/JPEGImages').iterdir())
    for number, folder in enumerate(folders):
        deque(segmenter(folder), maxlen=0)
        segmenter.write_json(out / 'infer' / f'{folder.name}.json')
        if number % 10 == 0:
            segmenter.write_video(out / 'infer/overlay.mp4')


# ------------------------------------------------------------------ watching


def look(program: psutil.Process, begin: float) -> Sample | None:
    """Samples a program and its children; ``None`` where it ends at this moment."""
    try:
        family = [program, *program.children(recursive=True)]
        memory = [process.memory_full_info() for process in family]
        return Sample(
            seconds=round(time.monotonic() - begin, 2),
            rss_mib=round(memory[0].rss / 2**20, 2),
            pss_mib=round(sum(info.pss for info in memory) / 2**20, 2),
            files=sum(process.num_fds() for process in family),
            threads=sum(process.num_threads() for process in family),
            processes=len(family),
        )
    except psutil.Error:
        return None


def watch(
    command: Sequence[str], log: Path, scratch: Path, every: float, samples: list[Sample]
) -> tuple[int, dict[str, int]]:
    """Runs a program to its end.

    Args:
        command: its command line.
        log: takes its output.
        scratch: folder for its temporary files.
        every: seconds between samples.
        samples: takes them one by one, so that those of a run broken off are not lost.

    Returns:
        Exit code, and what it left behind: living children and temporary files.
    """
    scratch.mkdir(parents=True)
    environment = {
        **os.environ,
        'PYTHONPATH': os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
        'TMPDIR': str(scratch),
    }
    children: set[psutil.Process] = set()
    with open(log, 'w', encoding='utf-8') as file:
        begin = time.monotonic()
        running = subprocess.Popen(command, stdout=file, stderr=file, env=environment, cwd=ROOT)
        program = psutil.Process(running.pid)
        try:
            while running.poll() is None:
                sample = look(program, begin)
                if sample is not None:
                    samples.append(sample)
                    children.update(program.children(recursive=True))
                time.sleep(every)
        except KeyboardInterrupt:
            running.terminate()
            running.wait()
    alive = [child for child in children if child.is_running()]
    left = [path for path in scratch.rglob('*') if path.is_file()]
    return running.returncode, dict(processes=len(alive), temporary_files=len(left))


def growth(samples: Sequence[Sample], field: str) -> tuple[float, float]:
    """Median right after warm-up and in the end, each over a quarter of the time that counts."""
    counted = samples[int(len(samples) * WARM_UP) :]
    values = np.array([getattr(sample, field) for sample in counted], float)
    quarter = max(1, len(values) // 4)
    return float(np.median(values[:quarter])), float(np.median(values[-quarter:]))


def judge(samples: Sequence[Sample], left: Mapping[str, int], tolerance: float) -> dict[str, Any]:
    """Figures of one program, and what is wrong with them."""
    if len(samples) < 20:
        return dict(problems=[f'only {len(samples)} samples; run longer or sample more often'])
    figures: dict[str, Any] = dict(samples=len(samples), seconds=samples[-1].seconds, left=left)
    problems = [f'{count} {what} left behind' for what, count in left.items() if count]
    for field in ('rss_mib', 'pss_mib', 'files', 'threads', 'processes'):
        first, last = growth(samples, field)
        highest = max(getattr(sample, field) for sample in samples)
        figures[field] = dict(after_warm_up=first, end=last, highest=highest)
        if field.endswith('_mib'):
            figures[field]['growth'] = round(last / first - 1, 4)
            if last > first * (1 + tolerance):
                problems.append(f'{field} grew by {last / first - 1:.1%}')
        elif last > first:
            problems.append(f'{field} grew from {first:g} to {last:g}')
    return dict(figures, problems=problems)


def result_problems(out: Path, videos: int) -> list[str]:
    """What is wrong with the result files."""
    truth = json.loads((out / 'data/val/instances.json').read_text())
    problems = check_submission(out / 'test/results.json', truth)
    found = 0
    for video in truth['videos']:
        path = out / 'infer' / f'{Path(video["file_names"][0]).parent.name}.json'
        alone = dict(truth, videos=[dict(video, id=1)], annotations=None)
        problems += check_submission(path, alone) if path.is_file() else [f'{path} is missing']
        found += path.is_file()
    return problems if found == videos else [*problems, f'{found} result files of {videos}']


# ------------------------------------------------------------------ what is shown

PANELS = (
    (('rss_mib', 'pss_mib'), 'memory in MiB'),
    (('files',), 'open files'),
    (('threads',), 'threads'),
    (('processes',), 'processes'),
)
NAMES = dict(rss_mib='program', pss_mib='with children')


def plot(samples: Mapping[str, Sequence[Sample]], titles: Mapping[str, str], path: Path) -> None:
    """Draws all samples, one column a program."""
    figure = Figure(figsize=(4.2 * len(samples), 8), layout='constrained')
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(PANELS), len(samples), squeeze=False, sharex='col')
    for column, (name, points) in enumerate(samples.items()):
        minutes = np.array([point.seconds for point in points]) / 60
        for axes, (panel, label) in zip(grid[:, column], PANELS):
            for field in panel:
                values = [getattr(point, field) for point in points]
                axes.plot(minutes, values, lw=1, label=NAMES.get(field))
            axes.axvspan(0, minutes[-1] * WARM_UP, color='0.92', lw=0)
            axes.set_ylim(0, None)
            axes.margins(x=0)
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(label)
        grid[0, column].set_title(titles[name], fontsize=10)
        grid[-1, column].set_xlabel('minutes (grey: warm-up)')
    grid[0, 0].legend(fontsize=8, loc='lower right')
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=100)


def write_samples(samples: Mapping[str, Sequence[Sample]], path: Path) -> None:
    """Writes all samples as csv."""
    names = [field.name for field in fields(Sample)]
    with whole_file(path) as temporary, open(temporary, 'w', newline='', encoding='utf-8') as file:
        writer = csv.DictWriter(file, ['program', *names])
        writer.writeheader()
        for program, points in samples.items():
            writer.writerows(dict(asdict(point), program=program) for point in points)


def run_all(args: argparse.Namespace) -> dict[str, Any]:
    """Runs and watches the three programs, and writes what was seen."""
    out = args.out.resolve()
    if out.exists() and any(out.iterdir()) and not (out / 'soak_config.py').is_file():
        raise SystemExit(f'soak.py: error: {out} holds something else; choose another folder')
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    config = write_config(args, out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # broken off: show what there is
    samples: dict[str, list[Sample]] = {}
    report: dict[str, Any] = dict(steps=args.steps, videos=args.videos, tolerance=args.tolerance)
    for name, command in commands(args, out, config).items():
        print(f'{name}: {" ".join(command)}', flush=True)
        log = out / f'{name}.log'
        samples[name] = []
        code, left = watch(command, log, out / 'scratch' / name, args.every, samples[name])
        report[name] = judge(samples[name], left, args.tolerance)
        if code:
            report[name]['problems'].append(f'exit code {code}, see {log}')
            break
    else:
        report['results'] = dict(problems=result_problems(out, args.videos))
    titles = dict(
        train=f'train, {args.steps} steps',
        test=f'test, {args.videos} videos',
        infer=f'infer, {args.videos} videos',
    )
    write_samples(samples, out / 'soak.csv')
    plot({name: points for name, points in samples.items() if points}, titles, out / 'soak.png')
    write_json(out / 'soak.json', report)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit status."""
    args = parse_args(argv)
    if args.infer:
        infer(*args.infer, args.out)
        return 0
    report = run_all(args)
    problems = []
    for name, part in report.items():
        if not isinstance(part, dict):
            continue
        problems += [f'{name}: {problem}' for problem in part['problems']]
        if 'rss_mib' in part:
            told = ', '.join(
                f'{field} {part[field]["after_warm_up"]:g} -> {part[field]["end"]:g}'
                for field in ('rss_mib', 'pss_mib', 'files', 'threads', 'processes')
            )
            print(f'{name}: {part["seconds"]:.0f} s, {told}')
    print('\n'.join(problems) or 'Nothing grew, nothing stayed behind, all results are valid.')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
