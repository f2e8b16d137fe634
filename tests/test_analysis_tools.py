"""Complexity and speed of a model."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mmboxvis.models.vis import ClipNetwork
from tests.engine.small_runs import load_main
from tests.models.tiny import (
    NUM_LAYERS,
    NUM_QUERIES,
    make_mask2former_vis,
    make_network,
    make_video,
)

ROOT = Path(__file__).resolve().parents[1]
TINY = str(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
FOLDER = ROOT / 'tools/analysis_tools'


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # profile_step is imported from the folder of the program
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setitem(sys.modules, name, module)  # dataclasses look there
        spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize(
    'name',
    [
        'tools/analysis_tools/get_flops.py',
        'tools/analysis_tools/profile_step.py',
        'tools/analysis_tools/scaling.py',
        'tools/deployment/export_onnx.py',
        'tools/misc/browse_dataset.py',
        'tools/misc/print_config.py',
    ],
)
def test_a_config_that_is_not_there_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ('onnx', 'onnxscript', 'onnxruntime'):
        monkeypatch.setitem(sys.modules, needed, ModuleType(needed))
    options = ['--out', 'out'] if 'export_onnx' in name or 'browse' in name else []
    with pytest.raises(SystemExit) as caught:
        load_main(name)(['gone.py', *options])
    assert caught.value.code == f'{Path(name).name}: error: there is no config gone.py'


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('benchmark_eval', []),
        ('benchmark_stpa', []),
        ('benchmark_step', [TINY]),
        ('benchmark_dataloader', [TINY, '--plain']),
    ],
)
def test_slow_twins_need_a_checkout(name: str, options: list[str], tmp_path: Path) -> None:
    """As installed, the tools have no tests beside them."""
    shutil.copytree(FOLDER, tmp_path / '.mim/tools/analysis_tools')
    (tmp_path / 'mmboxvis').symlink_to(ROOT / 'mmboxvis')
    program = tmp_path / f'.mim/tools/analysis_tools/{name}.py'
    done = subprocess.run(
        [sys.executable, program, *options],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(tmp_path), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f'{name}.py: error: the implementation')
    assert 'run this in a checkout' in done.stderr and 'Traceback' not in done.stderr


# ------------------------------------------------------------------ profile_step


def test_options_of_profile_step_have_types(capsys: pytest.CaptureFixture) -> None:
    options = ['--size', '64', '64', '--frames', '2', '--objects', '1', '--rounds', '1']
    changes = ['model.network.track_head.num_queries=7', 'model.pseudo_masks=None']
    load_main('tools/analysis_tools/profile_step.py')([TINY, *options, '--cfg-options', *changes])
    shown = capsys.readouterr().out
    assert 'backward' in shown and 'teacher' not in shown


# ------------------------------------------------------------------ get_flops


@pytest.fixture(scope='module')
def flops() -> ModuleType:
    return load('get_flops')


@pytest.fixture(scope='module')
def network() -> ClipNetwork:
    return make_network().eval().requires_grad_(False)


@pytest.fixture(scope='module')
def cost(flops: ModuleType, network: ClipNetwork) -> Any:
    return flops.measure(network, (64, 96), 3)


def test_flops_of_known_operations(flops: ModuleType) -> None:
    def count(work: Any) -> int:
        return flops.count_flops(work)[0].get_total_flops()

    assert count(lambda: torch.ones(5) + 1) == 0
    assert count(lambda: torch.ones(2, 3) @ torch.ones(3, 4)) == 2 * 2 * 3 * 4
    conv = torch.nn.Conv2d(3, 8, 3, padding=1)
    assert count(lambda: conv(torch.ones(1, 3, 4, 5))) == 2 * 3 * 9 * 8 * 4 * 5
    bags, rows = torch.zeros(5, 6, dtype=torch.int32), torch.ones(3, 8)
    bag = torch.nn.functional.embedding_bag
    weights = torch.ones(5, 6)
    assert count(lambda: bag(bags, rows, per_sample_weights=weights, mode='sum')) == 2 * 5 * 6 * 8
    query, key = torch.ones(1, 2, 3, 8), torch.ones(1, 2, 5, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    assert count(lambda: attend(query, key, key)) == 2 * (2 * 2 * 3 * 5 * 8)


def test_parameters_add_up(cost: Any, network: ClipNetwork, flops: ModuleType) -> None:
    assert sum(cost.parameters.values()) == sum(p.numel() for p in network.parameters())
    assert tuple(cost.parameters) == flops.PARTS and min(cost.parameters.values()) > 0
    assert cost.parameters['backbone'] == sum(p.numel() for p in network.backbone.parameters())


def test_parts_work_by_frame_or_by_clip(cost: Any, flops: ModuleType, network: ClipNetwork) -> None:
    backbone, pixel, decoder, head = flops.PARTS
    assert cost.frame[head] == cost.clip[backbone] == cost.clip[pixel] == 0
    # keys and values of the first two levels
    assert cost.frame[decoder] == 2 * 2 * 32 * 32 * (2 * 3 + 4 * 6)
    whole, _ = flops.count_flops(lambda: network(torch.zeros(1, 3, 3, 64, 96), last_only=True))
    assert sum(map(cost.per_clip, flops.PARTS)) == whole.get_total_flops()
    assert cost.per_video_frame(pixel, 3) == cost.frame[pixel]
    assert cost.per_video_frame(head, 3) == cost.clip[head] / 3


def test_deformable_attention_is_counted(flops: ModuleType, network: ClipNetwork) -> None:
    frame = torch.zeros(1, 3, 64, 96)
    counter, _ = flops.count_flops(lambda: network.encode_frames(frame))
    counted = sum(
        number
        for operation, number in counter.get_flop_counts()['Global'].items()
        if 'embedding_bag' in str(operation)
    )
    # one layer; 4 points on each of 3 levels for every cell at strides 8, 16 and 32; 32 channels
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert counted == 8 * cells * 3 * 4 * 32


def test_mask_head_is_counted(cost: Any, flops: ModuleType) -> None:
    # two at the size of the level attended to, the last one at stride 4
    masks = 2 * NUM_QUERIES * 32 * 3 * (2 * 3 + 4 * 6 + 16 * 24)
    embeds = (NUM_LAYERS + 1) * 2 * NUM_QUERIES * 3 * 32 * 32
    classes = 2 * NUM_QUERIES * 32 * 5
    assert cost.clip[flops.PARTS[3]] == masks + embeds + classes


def test_get_flops_prints_a_table(flops: ModuleType, capsys: pytest.CaptureFixture) -> None:
    assert flops.main([TINY, '--size', '60', '90', '--frames', '2']) == 0
    shown = capsys.readouterr().out
    assert 'padded to 64x96' in shown and 'GFLOPs a clip of 2' in ' '.join(shown.split())
    assert all(part in shown for part in flops.PARTS)
    assert flops.main([str(ROOT / 'configs/_base_/default_runtime.py')]) == 1
    assert 'defines no model' in capsys.readouterr().err
    with pytest.raises(SystemExit):
        flops.main([TINY, '--frames', '0'])


# ------------------------------------------------------------------ benchmark_fps


@pytest.fixture(scope='module')
def fps() -> ModuleType:
    return load('benchmark_fps')


@pytest.mark.parametrize('num_frames', [1, 5])
@pytest.mark.parametrize('clip_length', [1, 3])
def test_both_ways_predict_the_same(fps: ModuleType, clip_length: int, num_frames: int) -> None:
    model = make_mask2former_vis().eval()
    frames = make_video(num_frames)
    size = frames[0].shape[:2]
    predictions = []
    for cls in (fps.VideoPredictor, fps.TimedPredictor, fps.TimedAnewPredictor):
        predictor = cls(model, clip_length=clip_length)
        predictions.append(predictor(frames, ori_shape=size))
        assert cls is fps.VideoPredictor or predictor.seconds > 0
    for other in predictions[1:]:
        assert (other.labels == predictions[0].labels).all()
        assert other.scores == pytest.approx(predictions[0].scores, abs=1e-4)
    single, score, pixels = fps.final_difference(model, frames, clip_length)
    assert single == 0 and score < 1e-4 and pixels < 1e-4


def test_another_outcome_is_seen(fps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    model, frames = make_mask2former_vis().eval(), make_video(4)
    monkeypatch.setattr(fps, '_Pixels', lambda model, **kw: lambda *_, **__: other)
    other = fps.VideoPredictor(model, clip_length=1)(frames, ori_shape=frames[0].shape[:2])
    single, score, pixels = fps.final_difference(model, frames, 3)
    assert single + score + pixels > 1e-3


def test_reuse_encodes_each_frame_once(fps: ModuleType) -> None:
    model = make_mask2former_vis().eval()
    frames = make_video(5)
    encoded: list[int] = []
    model.student.backbone.register_forward_hook(lambda _, args, __: encoded.append(len(args[0])))
    fps.run_once(model, fps.Variant(3, reuse=True), frames)
    assert encoded == [1] * 5
    encoded.clear()
    fps.run_once(model, fps.Variant(3, reuse=False), frames)
    assert encoded == [3] * 3


def test_variants_take_turns(fps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Any] = []

    def run_once(_: Any, variant: Any, frames: Any) -> Any:
        order.append(variant)
        seconds = 1.0 if variant.reuse else 2.5
        return fps.Timing(seconds, seconds / 2)

    monkeypatch.setattr(fps, 'run_once', run_once)
    timings = fps.measure(None, [None] * 9, [1, 3], rounds=2)
    assert len(order) == 4 * 3 and order[4:8] == order[8:][::-1]
    assert all(len(rounds) == 2 for rounds in timings.values())
    assert fps.ratios(timings, 3, 'network') == [2.5, 2.5]


def test_benchmark_prints_a_table(fps: ModuleType, capsys: pytest.CaptureFixture) -> None:
    assert fps.main([TINY, '--size', '64', '64', '--frames', '3', '--rounds', '1']) == 0
    shown = ' '.join(capsys.readouterr().out.split())
    assert '3 frames of 64x64' in shown and 'threads' in shown
    assert shown.count('anew') == shown.count('reused') == 2
    assert 'no checkpoint' in shown
    differences = [float(x) for x in re.findall(r'differ by (\S+) of the largest', shown)]
    assert len(differences) == 2 and max(differences) < 1e-4
    with pytest.raises(SystemExit):
        fps.main([TINY, '--rounds', '0'])


def test_options_are_named_in_the_title(fps: ModuleType, capsys: pytest.CaptureFixture) -> None:
    options = ['--size', '64', '64', '--frames', '2', '--rounds', '1', '--clip-lengths', '2']
    assert fps.main([TINY, *options, '--amp']) == 0
    assert 'bfloat16' in capsys.readouterr().out
    assert fps.main([TINY, *options, '--beside', 'bfloat16']) == 0
    shown = ' '.join(capsys.readouterr().out.split())
    assert 'bfloat16' in shown and shown.count('reused') == 2


def test_kinds_leave_the_model_as_it_was(fps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_mask2former_vis().eval()
    monkeypatch.setattr(
        torch, 'compile', lambda function: lambda *a, **k: calls.append(1) or function(*a, **k)
    )
    calls: list[int] = []
    fps.run_once(model, fps.Variant(2, True, 'compiled'), make_video(3))
    assert len(calls) == 3 + 2, 'frames and clips'
    fps.run_once(model, fps.Variant(2, True), make_video(3))
    assert len(calls) == 5


# ------------------------------------------------------------------ benchmark_attention


def test_attention_benchmark_compares_equals(capsys: pytest.CaptureFixture) -> None:
    program = load('benchmark_attention')
    options = ['--size', '32', '64', '--frames', '2', '--rounds', '1']
    assert program.main([TINY, *options]) == 0
    shown = capsys.readouterr().out
    assert shown.count('mmcv') == shown.count('ours') == 4
    decoders = program.build_decoders(TINY, ['mmcv', 'ours'])
    for part, make in program.WORK.items():
        work = {kind: make(decoder, (32, 64), 2) for kind, decoder in decoders.items()}
        _, error = program.measure(work, True, 1)
        assert 0 < error < 1e-5, part
    with pytest.raises(SystemExit):
        program.main([TINY, '--size', '30', '64'])
