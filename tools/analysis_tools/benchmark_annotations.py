"""Time and memory of what reads large annotation files, on files generated for it.

    python tools/analysis_tools/benchmark_annotations.py [--work-dir DIR] [--scale 1] [--only NAME]

Writes a file of COCO's size (118k images, 860k objects with polygons, about 480 MB) and one in
YouTube-VIS layout (27,780 tracks, 1 M boxes with run-lengths), then measures, each in a process of
its own: the checker on both; BVISD built from the COCO file; and the start of training on the
built file of about 90k images, with the memory that its workers share. ``--scale`` makes all of it
smaller or larger.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from rich.console import Console
from rich.table import Table

from mmboxvis.datasets.categories import COCO_CLASSES
from mmboxvis.datasets.json_stream import write_json_stream

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools'
NUM_IMAGES, NUM_OBJECTS = 118_000, 860_000
NUM_TRACKS, TRACK_LENGTH = 27_780, 36
_COCO_IDS = tuple(  # the ids of the official file have gaps
    number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
)


def write_coco(path: Path, scale: float) -> None:
    """A file of the size and layout of COCO's training file."""
    rng = np.random.default_rng(0)
    num_images, num_objects = int(NUM_IMAGES * scale), int(NUM_OBJECTS * scale)
    images = (
        dict(license=3, file_name=f'{i:012}.jpg', coco_url=f'http://images.invalid/{i:012}.jpg',
             height=480, width=640, date_captured='2013-11-14 11:18:45', id=i)
        for i in range(1, num_images + 1)
    )  # fmt: skip
    # three of four objects in a quarter of the images have a class outside of BVISD
    owners = np.sort(rng.integers(1, num_images + 1, num_objects))
    inside = [1, 3, 17, 18, 20]
    outside = [44, 62, 67, 84, 47]

    def annotations() -> Iterator[dict[str, Any]]:
        for key, image in enumerate(owners.tolist(), start=1):
            x, y = rng.uniform(0, 400, 2).round(2).tolist()
            w, h = rng.uniform(10, 200, 2).round(2).tolist()
            turns = np.linspace(0, 2 * np.pi, 31)[:-1]
            around = np.stack(
                [x + w / 2 + w / 2 * np.cos(turns), y + h / 2 + h / 2 * np.sin(turns)]
            )
            polygon = around.T.ravel().round(2).tolist()
            kind = (outside if image % 4 == 0 else inside)[key % 5]
            yield dict(
                segmentation=[polygon], area=round(w * h * 0.7, 3), iscrowd=0, image_id=image,
                bbox=[x, y, w, h], category_id=kind, id=key,
            )  # fmt: skip

    categories = [dict(id=i, name=n) for i, n in zip(_COCO_IDS, COCO_CLASSES, strict=True)]
    members = dict(
        info=dict(year=2017), images=images, annotations=annotations(), categories=categories
    )
    write_json_stream(path, members)


def write_tracks(path: Path, scale: float) -> None:
    """A file in YouTube-VIS layout with a million boxes, run-lengths beside them."""
    rng = np.random.default_rng(0)
    per_video = 6
    num_videos = max(1, int(NUM_TRACKS * scale) // per_video)
    videos = (
        dict(id=i, width=1280, height=720, length=TRACK_LENGTH,
             file_names=[f'{i:06}/{t:05}.jpg' for t in range(TRACK_LENGTH)])
        for i in range(1, num_videos + 1)
    )  # fmt: skip
    y, x = np.ogrid[:720, :1280]
    ellipse = ((x - 500) / 60) ** 2 + ((y - 300) / 90) ** 2 < 1
    mask = mask_utils.encode(np.asfortranarray(ellipse, np.uint8))
    mask['counts'] = mask['counts'].decode()

    def annotations() -> Iterator[dict[str, Any]]:
        for key in range(num_videos * per_video):
            corner = rng.uniform(0, 600, (TRACK_LENGTH, 2))
            size = rng.uniform(10, 100, (TRACK_LENGTH, 2))
            boxes = np.concatenate([corner, size], 1).round(1).tolist()
            yield dict(
                id=key + 1, video_id=key // per_video + 1, category_id=key % 40 + 1, iscrowd=0,
                bboxes=boxes, segmentations=[mask] * TRACK_LENGTH,
            )  # fmt: skip

    categories = [dict(id=i, name=f'class {i}') for i in range(1, 41)]
    write_json_stream(path, dict(videos=videos, categories=categories, annotations=annotations()))


# ------------------------------------------------------------------ measured processes


@dataclass(frozen=True)
class Run:
    """What a process took and said.

    Attributes:
        seconds: from start to end, imports included.
        cpu_seconds: of its own, which other programs on the machine hardly change.
        memory: peak in GB.
        printed: its output.
    """

    seconds: float
    cpu_seconds: float
    memory: float
    printed: str

    @property
    def cells(self) -> list[str]:
        """The last columns of a row."""
        return [f'{self.seconds:.0f} s', f'{self.cpu_seconds:.0f} s', f'{self.memory:.2f} GB']


def run_measured(*command: object) -> Run:
    """Runs Python and measures it.

    Raises:
        SystemExit: if it fails otherwise than by finding errors in the file.
    """
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        sys.exit(f'{command[0]} failed:\n{printed[-2000:]}')
    taken, cpu = time.perf_counter() - began, usage.ru_utime + usage.ru_stime
    return Run(taken, cpu, usage.ru_maxrss * 1024 / 1e9, printed)


def start_training(data_root: str, num_workers: int) -> None:
    """Loads the training file, begins to sample, starts workers, and tells what each costs."""
    import psutil
    from torch.utils.data import DataLoader, Dataset

    from mmboxvis.datasets import BVISD, MixedSampler

    class Records(Dataset):
        """Reads records, decodes no picture: the images of the generated file do not exist."""

        def __len__(self) -> int:
            return len(mixed)

        def __getitem__(self, index: int) -> int:
            return len(mixed.datasets[0].get_data_info(index)['file_names'])

    began, used = time.perf_counter(), time.process_time()
    mixed = BVISD(
        coco=dict(data_root=data_root, ann_file='coco_train.json', img_root='images', pipeline=[])
    )
    loaded, used = time.perf_counter() - began, time.process_time() - used
    sampler = MixedSampler(mixed, [1], seed=0, same_orientation=2)
    next(iter(sampler))
    sampled = time.perf_counter() - began - loaded
    batches = iter(DataLoader(Records(), 64, sampler=sampler, num_workers=num_workers))
    for _ in range(50 * max(1, num_workers)):
        next(batches)
    own = [child.memory_full_info() for child in psutil.Process().children()]
    result = dict(
        images=len(mixed),
        load_seconds=loaded,
        load_cpu_seconds=used,
        sampler_seconds=sampled,
        index_mb=mixed.datasets[0].data_bytes.nbytes / 1e6,
        worker_own_mb=max((info.uss for info in own), default=0) / 1e6,
        worker_seen_mb=max((info.rss for info in own), default=0) / 1e6,
    )
    print(json.dumps(result))


def measure_check(path: Path) -> list[str]:
    """A row: time and memory of the checker."""
    report = path.with_suffix('.report.json')
    run = run_measured(TOOLS / 'misc/check_dataset.py', path, '--report', report)
    objects = json.loads(report.read_text())['counts']['objects']
    size = path.stat().st_size / 1e6
    return [f'check_dataset, {path.stem}', f'{objects:,} boxes, {size:.0f} MB', *run.cells]


def measure_build(path: Path, out: Path, masks: str) -> list[str]:
    """A row: time and memory of building BVISD."""
    run = run_measured(
        TOOLS / 'dataset_converters/build_bvisd.py', '--coco', path, '--out', out,
        '--masks', masks, '--quiet',
    )  # fmt: skip
    counts = json.loads((out / 'manifest.json').read_text())['outputs']['coco_train.json']
    kept = f'{counts["images"]:,} images, {counts["objects"]:,} objects kept'
    return [f'build_bvisd --masks {masks}', kept, *run.cells]


def measure_start(folder: Path, workers: int) -> list[list[str]]:
    """Rows: start of training on what was built."""
    images = folder / 'images'
    images.mkdir(exist_ok=True)
    listed = json.loads((folder / 'coco_train.json').read_text())['images']
    for image in listed:  # only their being there is looked at
        (images / image['file_name']).touch()
    code = f'from benchmark_annotations import start_training; start_training({str(folder)!r}, '
    command = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); {code}{workers})'
    run = run_measured('-c', command)
    found = json.loads(run.printed.strip().splitlines()[-1])
    told = f'{found["images"]:,} images, index of {found["index_mb"]:.0f} MB'
    return [
        ['start: load the training file', told, f'{found["load_seconds"]:.1f} s',
         f'{found["load_cpu_seconds"]:.1f} s', f'{run.memory:.2f} GB'],
        ['start: sampler by orientation', '', f'{found["sampler_seconds"]:.1f} s', '', ''],
        [f'each of {workers} workers', f'{found["worker_seen_mb"]:.0f} MB seen', '', '',
         f'{found["worker_own_mb"] / 1000:.2f} GB of its own'],
    ]  # fmt: skip


def parse_args() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', type=Path, help='keeps the files; default: a temporary one')
    parser.add_argument('--scale', type=float, default=1.0)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--only', choices=('check', 'build', 'start'), nargs='+')
    return parser.parse_args()


def measure(args: argparse.Namespace, folder: Path) -> None:
    """Writes the files that are not there yet, measures, and prints a table."""
    made: dict[str, Callable[[Path, float], None]] = dict(coco=write_coco, tracks=write_tracks)
    wanted = args.only or ('check', 'build', 'start')
    for name, write in made.items():
        path = folder / f'{name}.json'
        if not path.exists() and (name == 'coco' or 'check' in wanted):
            write(path, args.scale)
    table = Table(title=f'scale {args.scale:g}, {os.cpu_count()} cores')
    for column in ('what', 'size', 'time', 'of the CPU', 'peak memory'):
        table.add_column(column, justify='left' if column in ('what', 'size') else 'right')
    if 'check' in wanted:
        table.add_row(*measure_check(folder / 'tracks.json'))
        table.add_row(*measure_check(folder / 'coco.json'))
    if 'build' in wanted:
        table.add_row(*measure_build(folder / 'coco.json', folder / 'all', 'all'))
    if 'build' in wanted or not (folder / 'bvisd').exists():
        table.add_row(*measure_build(folder / 'coco.json', folder / 'bvisd', 'none'))
    if 'start' in wanted:
        for row in measure_start(folder / 'bvisd', args.workers):
            table.add_row(*row)
    Console(width=110).print(table)


def main() -> None:
    """Measures in the folder asked for, or in one that is removed afterwards."""
    args = parse_args()
    if args.work_dir is not None:
        args.work_dir.mkdir(parents=True, exist_ok=True)
        measure(args, args.work_dir)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(args, Path(folder))


if __name__ == '__main__':
    main()
