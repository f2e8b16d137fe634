from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.models.tiny import NUM_CLASSES, NUM_QUERIES, make_mask2former_vis

PROGRAM = Path(__file__).parents[1] / 'tools/deployment/export_onnx.py'
TINY = str(Path(__file__).parents[1] / 'configs/boxvis/boxvis_tiny_toyvis.py')


@pytest.fixture(scope='module')
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location('export_onnx', PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_onnxruntime_predicts_the_same(program: ModuleType, tmp_path: Path) -> None:
    for name in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(name, reason=f'no {name}: it comes with the extra mmboxvis[onnx]')
    torch.manual_seed(0)
    model = make_mask2former_vis().eval()
    rows = program.export_and_check(model, tmp_path, (64, 96), 3, 1)
    assert [row[0] for row in rows] == ['frame', 'clip']
    assert max(row[1] for row in rows) < 1e-4
    assert sorted(path.name for path in tmp_path.iterdir()) == ['clip.onnx', 'frame.onnx']

    # another clip than the one that was exported with, by the names the program promises
    frames = torch.rand(3, 3, 64, 96) * 255
    frame, clip = (program.session(tmp_path / f'{name}.onnx', 1) for name in ('frame', 'clip'))
    parts = [program.run_onnx(frame, [x[None]]) for x in frames]
    found = clip.run(
        list(program.PREDICTIONS),
        {name: torch.cat(same).numpy() for name, same in zip(program.FEATURES, zip(*parts))},
    )
    wanted = model.predict_clip(frames)[-1]
    assert found[0].shape == (NUM_QUERIES, NUM_CLASSES + 1)
    for name, value in zip(program.PREDICTIONS, found):
        torch.testing.assert_close(
            torch.from_numpy(value), getattr(wanted, name), atol=1e-3, rtol=1e-3
        )


def test_without_onnx_it_says_what_to_install(
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, 'onnx', None)
    assert program.main([TINY, '--out', str(tmp_path / 'out')]) == 1
    assert "pip install 'mmboxvis[onnx]'" in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_sizes_that_the_network_cannot_take_are_refused(program: ModuleType) -> None:
    with pytest.raises(SystemExit):
        program.main([TINY, '--out', 'out', '--size', '60', '90'])
