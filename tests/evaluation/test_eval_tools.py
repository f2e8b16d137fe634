"""Command lines of the evaluation."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from pycocotools import mask as mask_api

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
MASK = mask_api.frPyObjects([[1, 1, 5, 1, 5, 4, 1, 4]], 6, 8)[0]
RLE = dict(size=[6, 8], counts=MASK['counts'].decode())


def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, TOOLS / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, Path]:
    """An annotation file, and a result file that is right."""
    track = dict(video_id=1, category_id=4, segmentations=[RLE, None])
    gt = dict(
        videos=[dict(id=i, height=6, width=8, length=2) for i in (1, 2)],
        categories=[dict(id=4, name='giraffe')],
        annotations=[track],
    )
    (tmp_path / 'gt.json').write_text(json.dumps(gt))
    (tmp_path / 'run.json').write_text(json.dumps([dict(track, score=0.5)]))
    return str(tmp_path / 'gt.json'), tmp_path / 'run.json'


def test_eval_results(files: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    gt, results = files
    main = load('analysis_tools/eval_results.py').main
    archive = results.with_suffix('.zip')
    with zipfile.ZipFile(archive, 'w') as target:
        target.write(results, 'results.json')
    out = results.with_name('scores.json')
    assert main([gt, str(archive), '--per-class', '--out', str(out)]) == 0
    shown = capsys.readouterr().out
    assert '100.0' in shown and 'giraffe' in shown
    scores = json.loads(out.read_text())
    assert scores['metrics']['AP'] == scores['per_class']['giraffe']['AP'] == 1.0
    assert main([gt, str(results), '--class-agnostic', '--per-class']) == 0
    shown = capsys.readouterr().out
    assert 'object' in shown and 'giraffe' not in shown
    assert main([gt, str(results), '--iou-type', 'box']) == 0
    assert 'boxes' in capsys.readouterr().out
    assert main([gt, gt]) == 1
    assert 'expected a list of tracks' in capsys.readouterr().err


def test_analyze_errors(files: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    gt, results = files
    main = load('analysis_tools/analyze_errors.py').main
    assert main([gt, str(results)]) == 0
    assert '| AP as it is ' in capsys.readouterr().out
    results.write_text(json.dumps([dict(json.loads(results.read_text())[0], video_id=2)]))
    out, plot = results.with_name('errors.json'), results.with_name('errors.png')
    options = ['--thresholds', '0.5', '0.75', '--out', str(out), '--plot', str(plot)]
    assert main([gt, str(results), *options]) == 0
    table = [line.split('|') for line in capsys.readouterr().out.splitlines() if '|' in line]
    lines = {cells[1].strip(): cells for cells in table}
    assert lines['missed'][-2].strip() == '+100.0'
    assert lines['background'][-2].strip() == '+0.0'
    content = json.loads(out.read_text())
    assert content['gains']['missed'] == [1.0, 1.0]
    assert [error['kind'] for error in content['errors']] == ['missed', 'background']
    assert content['errors'][0]['score'] is None
    assert plot.read_bytes().startswith(b'\x89PNG')
    assert main([gt, str(results), '--thresholds', '0.7', '0.5']) == 1
    assert main([gt, gt]) == 1
    assert 'expected a list of tracks' in capsys.readouterr().err


def test_check_submission(files: tuple[str, Path], capsys: pytest.CaptureFixture) -> None:
    gt, results = files
    main = load('misc/check_submission.py').main
    assert main([str(results), gt]) == 0
    shown = capsys.readouterr().out
    assert 'valid, 1 tracks in 1 of 2 videos' in shown and 'no track in 1 videos: 2' in shown
    results.write_text(results.read_text().replace('0.5', 'NaN'))
    assert main([str(results), gt]) == 1
    assert "field 'score': expected a finite number, got nan" in capsys.readouterr().out
    assert main([gt, gt]) == 1
    assert main([str(results) + 'x', gt]) == 1
    assert 'no such file' in capsys.readouterr().out


def test_benchmark(capsys: pytest.CaptureFixture) -> None:
    main = load('analysis_tools/benchmark_eval.py').main
    small = '--videos 1 --frames 4 --tracks 2 --predictions 6 --classes 2 --size 40 60'
    assert main(small.split()) > 0
    output = capsys.readouterr().out
    assert 'largest difference' in output and 'first call' in output


def test_benchmark_of_many_sets(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    benchmark = load('analysis_tools/benchmark_eval.py')
    monkeypatch.setattr(benchmark, 'TABLE', (benchmark.TINY, f'{benchmark.TINY} --occlusion'))
    assert benchmark.main(['--table', '--rounds', '1', '--no-plain']) > 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and 'occlusion' in lines[2] and 'smallest ratio' in lines[3]
