"""The whole way on data drawn here: train from boxes only, segment and track, score, show.

``make quickstart`` runs it. Another config of the same data set, say the pixel-supervised twin,
goes the same way: ``python tools/quickstart.py --config configs/baselines/...``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmboxvis._cli import UsageError, schedule_options, write_json
from mmboxvis.datasets.toyvis import generate_toyvis
from mmboxvis.visualization import overlay_video_from_json, plot_training_log, sheet_from_json

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_CONFIG = Path('configs/boxvis/boxvis_tiny_toyvis.py')
OUTPUTS = {
    'train.log': 'log with all losses',
    'metrics.json': 'the numbers above, 0 to 1, and the times',
    'results.json': 'tracks of the held-out videos in submission layout',
    'results.zip': 'the same, as a benchmark server takes it',
    'sheet.png': 'frames, boxes, predicted masks, true masks',
    'overlay.mp4': 'the predicted tracks over the held-out videos',
    'losses.png': 'loss curves',
}
HEADLINE = ('AP', 'AP_50', 'AP_75', 'AR_1', 'AR_10')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', type=Path, default=DEFAULT_CONFIG, help='a ToyVIS config')
    parser.add_argument('--seed', type=int, default=0, help='of the training; the data stay')
    parser.add_argument('--max-iters', type=int, help="training steps; default: the config's")
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='default: work_dirs/quickstart, or for another config work_dirs/quickstart_NAME',
    )
    args = parser.parse_args(argv)
    if args.max_iters is not None and args.max_iters < 1:
        parser.error('--max-iters has to be at least 1')
    if args.work_dir is None:
        is_default = args.config.stem == DEFAULT_CONFIG.stem
        name = 'quickstart' if is_default else f'quickstart_{args.config.stem}'
        args.work_dir = Path('work_dirs') / name
    return args


def run_tool(name: str, *arguments: str | os.PathLike[str]) -> float:
    """Run one of the tools beside this file with its output on the screen.

    Returns:
        Its wall-clock time in seconds.

    Raises:
        UsageError: If it fails; its own message stands above.
    """
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    shown = ' '.join(str(argument).removeprefix(f'{ROOT}{os.sep}') for argument in arguments)
    print(f'  $ python tools/{name} {shown}', flush=True)
    start = time.perf_counter()
    code = subprocess.run(command, cwd=ROOT).returncode
    if code:
        raise UsageError(f'tools/{name} failed with exit code {code}; its message is above')
    return time.perf_counter() - start


def step(number: int, text: str) -> None:
    """Announce a step."""
    print(f'\n[{number}/4] {text}', flush=True)


def clear(work_dir: Path) -> None:
    """Remove what an earlier run left in ``work_dir``, so that nothing old passes for new."""
    for pattern in ('iter_*.pth', 'best_*.pth', 'last_checkpoint', *OUTPUTS):
        for path in work_dir.glob(pattern):
            path.unlink()
    shutil.rmtree(work_dir / 'test', ignore_errors=True)
    work_dir.mkdir(parents=True, exist_ok=True)


def make_data(cfg: Config) -> Path:
    """Draw the data set that the config asks for, unless it is there already.

    Raises:
        UsageError: If the config is not one of ToyVIS.
    """
    dataset = cfg.train_dataloader.dataset
    if 'generate' not in dataset:
        raise UsageError(f'{cfg.filename} does not train on ToyVIS')
    settings = dict(dataset.generate)
    step(1, f'ToyVIS in {dataset.data_root}: {settings}')
    workers = min(4, os.cpu_count() or 1)
    return generate_toyvis(
        ROOT / dataset.data_root, **settings, num_workers=workers, overwrite=True
    )


def train(args: argparse.Namespace, cfg: Config, work_dir: Path) -> tuple[Path, Path, float]:
    """Train through ``tools/train.py``.

    Returns:
        The checkpoint, the run's folder of logs, and the seconds it took.
    """
    # tools/test.py scores it; so its schedule is set even where it stays as long as it is
    stretched = schedule_options(cfg, args.max_iters or cfg.train_cfg.max_iters)
    stretched['randomness.seed'] = args.seed
    options = [f'{key}={value}'.replace(' ', '') for key, value in stretched.items()]
    earlier = set(work_dir.glob('*/*.log'))
    seconds = run_tool('train.py', args.config, '--work-dir', work_dir, '--cfg-options', *options)
    log = max(set(work_dir.glob('*/*.log')) - earlier)
    shutil.copyfile(log, work_dir / 'train.log')
    return Path((work_dir / 'last_checkpoint').read_text().strip()), log.parent, seconds


def draw(work_dir: Path, data: Path, run: Path) -> None:
    """Draw the contact sheet, the overlay video and the loss curves into ``work_dir``."""
    frames = data / 'val' / 'JPEGImages'
    boxes, instances = (data / 'val' / name for name in ('boxes.json', 'instances.json'))
    results = work_dir / 'results.json'
    title = 'ToyVIS, held-out videos: boxes, predicted masks, true masks'
    sheet_from_json(frames, boxes, results, instances, work_dir / 'sheet.png', title=title)
    overlay_video_from_json(frames, instances, results, work_dir / 'overlay.mp4')
    plot_training_log(run / 'vis_data' / 'scalars.json', work_dir / 'losses.png', title='Training')


def report(work_dir: Path, checkpoint: Path, metrics: dict[str, Any]) -> None:
    """Say what came out and where it lies."""
    print(f'\nHeld-out videos, masks ({metrics["config"]}, seed {metrics["seed"]}):')
    print('  ' + '  '.join(f'{name} {metrics[name]:.3f}' for name in HEADLINE))
    print(f'  trained in {metrics["train_seconds"]:.0f} s, ', end='')
    print(f'tested in {metrics["test_seconds"]:.0f} s')
    print(f'\nFiles in {work_dir}:')
    for name, what in {checkpoint.name: 'checkpoint', **OUTPUTS}.items():
        print(f'  {name:16} {what}')


def run_all(args: argparse.Namespace) -> None:
    """Go the whole way.

    Raises:
        UsageError: If the config is missing or a step fails.
    """
    if not (ROOT / args.config).is_file():
        raise UsageError(f'there is no config {args.config}')
    work_dir = ROOT / args.work_dir
    start = time.perf_counter()
    cfg = Config.fromfile(ROOT / args.config)
    data = make_data(cfg)
    clear(work_dir)
    step(2, f'training {args.config.stem}')
    checkpoint, run, train_seconds = train(args, cfg, work_dir)
    step(3, 'testing on the held-out videos')
    run_tool(
        *('test.py', args.config, checkpoint, '--work-dir', work_dir / 'test'),
        *('--out', work_dir / 'results.json', '--metrics-out', work_dir / 'metrics.json'),
    )
    metrics = json.loads((work_dir / 'metrics.json').read_text())
    metrics |= {
        'train_seconds': round(train_seconds, 2),
        'config': str(args.config),
        'seed': args.seed,
    }
    write_json(work_dir / 'metrics.json', metrics)
    step(4, 'drawing')
    draw(work_dir, data, run)
    report(args.work_dir, checkpoint, metrics)
    print(f'\nAll in {(time.perf_counter() - start) / 60:.1f} minutes.')


def main(argv: Sequence[str] | None = None) -> None:
    """Run all steps; a failure is one line and exit code 1."""
    try:
        run_all(parse_args(argv))
    except UsageError as error:
        sys.exit(f'quickstart.py: error: {error}')
    except KeyboardInterrupt:
        sys.exit('quickstart.py: broken off')


if __name__ == '__main__':
    main()
