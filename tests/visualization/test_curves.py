from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.visualization import LocalVisBackend

from mmboxvis.visualization import plot_training_log
from mmboxvis.visualization.curves import extract_curves, find_logs, load_records, smoothed

TOOL = Path(__file__).parents[2] / 'tools' / 'analysis_tools' / 'plot_logs.py'


def training(step: int, loss: float = 1.0, **extra: object) -> dict:
    record = dict(lr=1e-4, data_time=0.1, loss=loss, loss_cls=loss / 2, time=0.3, iter=step)
    return {**record, 'd0.loss_cls': loss, 'memory': 0, 'step': step, **extra}


def validation(step: int, ap: float) -> dict:
    return {'vis/AP': ap, 'vis/AP_50': 2 * ap, 'vis/AP_s': -1.0, 'data_time': 0.1, 'step': step}


def write_log(work_dir: Path, timestamp: str, records: list[dict]) -> Path:
    path = work_dir / timestamp / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(record) + '\n' for record in records))
    return path


def test_empty_folder_and_empty_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='--work-dir'):
        plot_training_log(tmp_path, tmp_path / 'a.png')
    write_log(tmp_path, '20260101_000000', [])
    with pytest.raises(ValueError, match='no scalar'):
        plot_training_log(tmp_path, tmp_path / 'a.png')
    with pytest.raises(ValueError, match='no log'):
        plot_training_log([], tmp_path / 'a.png')
    assert not (tmp_path / 'a.png').exists()


def test_one_record(tmp_path: Path) -> None:
    path = plot_training_log([training(1)], tmp_path / 'a.png')
    assert cv2.imread(str(path)) is not None


def test_log_of_the_runner_is_read(tmp_path: Path) -> None:
    backend = LocalVisBackend(str(tmp_path / '20260101_000000' / 'vis_data'))
    for step in (50, 100):
        record = training(step, 1 / step)
        backend.add_scalars({k: v for k, v in record.items() if k != 'step'}, step=step)
    backend.add_scalars({'vis/AP': 0.25, 'time': 0.1}, step=100)
    curves = extract_curves(load_records(tmp_path))
    np.testing.assert_array_equal(curves['loss'].steps, [50, 100])
    np.testing.assert_allclose(curves['loss'].values, [0.02, 0.01])
    np.testing.assert_array_equal(curves['vis/AP'].steps, [100])
    assert curves['vis/AP'].is_metric and not curves['loss'].is_metric
    assert 'time' not in curves


def test_values_that_cannot_be_drawn_are_left_out() -> None:
    records = [training(1, float('nan')), training(2, 2.0), validation(2, 0.5), {'step': 3}]
    curves = extract_curves(records)
    np.testing.assert_array_equal(curves['loss'].steps, [2])
    assert 'vis/AP_s' not in curves


def test_validation_by_epoch_is_placed_on_iterations() -> None:
    records = [training(step, epoch=1 + step // 101) for step in (50, 100, 150, 200)]
    curves = extract_curves([*records, validation(1, 0.1), validation(2, 0.3)])
    np.testing.assert_array_equal(curves['vis/AP'].steps, [100, 200])


def test_a_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    write_log(
        tmp_path, '20260101_000000', [training(50, 1), training(100, 2), validation(100, 0.9)]
    )
    write_log(tmp_path, '20260102_000000', [training(100, 3), training(150, 4)])
    write_log(tmp_path, '20260103_000000', [validation(150, 0.5)])
    assert [path.parts[-3] for path in find_logs(tmp_path)] == [
        '20260101_000000',
        '20260102_000000',
        '20260103_000000',
    ]
    curves = extract_curves(load_records(tmp_path))
    np.testing.assert_array_equal(curves['loss'].values, [1, 3, 4])
    np.testing.assert_array_equal(curves['vis/AP'].values, [0.5])


def test_line_cut_short(tmp_path: Path) -> None:
    path = write_log(tmp_path, '20260101_000000', [training(1)])
    path.write_text(path.read_text() + '{"loss": 0.')
    assert len(load_records(path)) == 1
    path.write_text('{"loss": 0.\n' + json.dumps(training(1)) + '\n')
    with pytest.raises(ValueError, match=r'scalars.json, line 1'):
        load_records(path)


def test_smoothing() -> None:
    values = np.array([4.0, 0.0, 1.0, 3.0])
    np.testing.assert_allclose(smoothed(values, 0.0), values)
    np.testing.assert_allclose(smoothed(np.full(5, 2.5), 0.9), 2.5)
    weights = 0.5 ** np.arange(3, -1, -1)
    np.testing.assert_allclose(smoothed(values, 0.5)[-1], (weights * values).sum() / weights.sum())
    assert smoothed(np.zeros(0), 0.9).shape == (0,)


def test_keys_choose_panels(tmp_path: Path) -> None:
    records = [training(step) for step in (1, 2)] + [validation(2, 0.5)]

    def width(keys: list[str] | None) -> int:
        path = plot_training_log(records, tmp_path / 'a.png', keys=keys)
        return cv2.imread(str(path)).shape[1]

    assert width(['loss']) < width(['loss', 'd*.loss_cls']) < width(['loss*', 'lr'])
    with pytest.raises(ValueError, match="'nothing'"):
        width(['nothing'])
    with pytest.raises(ValueError, match='1 labels for 2 runs'):
        plot_training_log([records, records], tmp_path / 'a.png', labels=['a'])


def test_legend_tells_runs_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []
    monkeypatch.setattr(
        'matplotlib.figure.Figure.legend', lambda self, _, labels, **kw: told.append(labels)
    )
    records = [training(step) for step in (1, 2)]
    for runs, options in (
        ([records], {}),
        ([records], dict(smoothing=0)),
        ([records, records], dict(labels=['a', 'b'])),
        ([records, records], dict(labels=['a', 'b'], keys=['lr'])),
    ):
        plot_training_log(runs, tmp_path / 'a.png', **options)  # type: ignore[arg-type]
    lines = ['as logged', 'smoothed']
    assert told == [lines, ['a', 'b', *lines], ['a', 'b']]


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        plot_training_log([training(1)], tmp_path / 'a.nonsense')
    assert list(tmp_path.iterdir()) == []


def test_tool(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = importlib.util.spec_from_file_location('plot_logs', TOOL)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name in ('first', 'second'):
        write_log(tmp_path / name, '20260101_000000', [training(1), training(2)])
    runs = [str(tmp_path / 'first'), str(tmp_path / 'second')]
    out = tmp_path / 'plots' / 'curves.png'
    assert tool.main([*runs, '--out', str(out), '--keys', 'loss', 'lr']) == 0
    assert cv2.imread(str(out)) is not None
    assert tool.main(runs) == 0
    assert tool.main([str(find_logs(runs[1])[0])]) == 0
    beside = [path.parent for path in sorted(tmp_path.rglob('curves.png'))]
    assert beside == [tmp_path / 'first', out.parent, find_logs(runs[1])[0].parent]
    assert tool.main([str(tmp_path / 'third'), '--out', str(out)]) == 1
    assert 'third' in capsys.readouterr().err
