"""The benchmark programs of the data side run, and count what they say they count."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> ModuleType:
    path = ROOT / 'tools/analysis_tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


class Later:
    """A transform that holds another, as RandomApply does, and takes time itself."""

    def __init__(self, *inner: Any) -> None:
        self.transforms = Compose(list(inner))

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        for transform in self.transforms.transforms:
            results = transform(results)
        return results


def test_time_of_nested_transforms_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tool = load('benchmark_dataloader')
    clock = [0.0]
    monkeypatch.setattr(tool.time, 'process_time', lambda: clock[0])

    class Slow:
        def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
            clock[0] += 2
            return results

    class Quick(Slow):
        def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
            clock[0] += 0.5
            return results

    pipeline = Compose([Slow(), Later(Quick(), Slow()), Quick()])
    timer = tool.TransformTimer()
    timer.watch(pipeline)
    assert pipeline({'x': 1}) == {'x': 1}
    assert dict(timer.seconds) == {'Slow': 4, 'Quick': 1, 'Later': 0}


def test_dataloader_on_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in (1, 2):
        image = np.random.default_rng(key).integers(0, 256, (60, 80, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{key}.jpg'), image)
    content = dict(
        images=[dict(id=k, file_name=f'{k}.jpg', width=80, height=60) for k in (1, 2)],
        categories=[dict(id=1, name='person')],
        annotations=[
            dict(id=k, image_id=k, category_id=1, iscrowd=0, bbox=[5, 5, 50, 40]) for k in (1, 2)
        ],
    )
    (tmp_path / 'coco.json').write_text(json.dumps(content))
    tool = load('benchmark_dataloader')
    config = str(ROOT / 'configs/boxvis/boxvis_r50_8xb2-15k_bvisd.py')
    command = [
        'benchmark_dataloader.py', config, '--images', str(tmp_path / 'coco.json'), str(tmp_path),
        '--plain', '--clips', '2', '--rounds', '1', '--workers', '0',
    ]  # fmt: skip
    monkeypatch.setattr(sys, 'argv', command)
    tool.main()
    printed = capsys.readouterr().out
    for word in ('plain clips/s', 'ClipRotate', 'RandomApply', 'workers'):
        assert word in printed


@pytest.mark.slow  # two programs of their own, each importing everything
def test_large_files_in_small(tmp_path: Path) -> None:
    tool = load('benchmark_annotations')
    tool.write_coco(tmp_path / 'coco.json', 0.001)
    tool.write_tracks(tmp_path / 'tracks.json', 0.001)
    coco, tracks = (json.loads((tmp_path / f'{n}.json').read_text()) for n in ('coco', 'tracks'))
    assert len(coco['images']) == 118 and len(coco['annotations']) == 860
    assert len(tracks['annotations']) == 24 and len(tracks['annotations'][0]['bboxes']) == 36

    row = tool.measure_build(tmp_path / 'coco.json', tmp_path / 'bvisd', 'none')
    assert row[0] == 'build_bvisd --masks none' and row[-1].endswith('GB')
    [loading, _, worker] = tool.measure_start(tmp_path / 'bvisd', 1)
    assert loading[1].split(' images')[0] in row[1]
    assert worker[0] == 'each of 1 workers' and 'of its own' in worker[-1]
