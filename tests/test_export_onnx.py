from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
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


class TorchSession:
    """Runs the part itself where onnxruntime would run its export."""

    def __init__(self, part: torch.nn.Module) -> None:
        self.part = part

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name='frame')]

    def run(self, _: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [out.numpy() for out in self.part(*map(torch.from_numpy, feed.values()))]


@torch.no_grad()
def test_frames_are_padded_with_the_mean(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    part = program.FramePart(make_mask2former_vis().eval())
    frame = torch.rand(3, 64, 96) * 255
    assert program.padding_difference(part, TorchSession(part), frame) < 1e-4
    padded = part.padded(frame[:, :50, :70], (64, 96))
    assert torch.equal(padded[0, :, :50, :70], frame[:, :50, :70])
    for corner in (padded[0, :, 63, 0], padded[0, :, 0, 95]):
        torch.testing.assert_close(corner, torch.tensor([123.675, 116.28, 103.53]))

    def black(small: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return part.preprocessor.pad(small, size)[None]

    monkeypatch.setattr(part, 'padded', black)
    assert program.padding_difference(part, TorchSession(part), frame) > program.TOLERANCE


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


def test_sizes_that_the_network_cannot_take_are_refused(
    program: ModuleType, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        program.main([TINY, '--out', 'out', '--size', '60', '90'])
    assert 'with the mean of the preprocessor (123.675 116.28 103.53' in capsys.readouterr().err
