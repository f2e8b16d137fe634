"""What runs on a GPU is what runs on the CPU."""

from __future__ import annotations

import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mmboxvis.apis import VideoSegmenter
from mmboxvis.models.losses import STPALoss
from mmboxvis.models.vis import BoxVIS
from mmboxvis.structures import AffinityPairs, boxes_to_masks
from tests.engine.small_runs import make_config
from tests.models.test_losses_stpa import make_clip as make_affinity_clip
from tests.models.tiny import make_batch, make_boxvis, make_clip, make_sample, make_video

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU')


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32, torch's default in convolutions, has 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, 'allow_tf32', False)


def on_gpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.cuda()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: on_gpu(getattr(value, f.name)) for f in fields(value)})
    return value


def draw_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators of CPU and GPU give other numbers for the same seed."""
    drawn = torch.rand

    def rand(*size: Any, device: Any = None, **kwargs: Any) -> Tensor:
        return drawn(*size, **kwargs).to(device or 'cpu')

    monkeypatch.setattr(torch, 'rand', rand)


def count_waits(work: Callable[[], Any]) -> int:
    """How often the host waits for the GPU."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            work()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return sum('synchroniz' in str(warning.message) for warning in caught)


def keys(pairs: AffinityPairs) -> set[tuple[int, ...]]:
    lists = (pairs.nodes[pairs.first], pairs.nodes[pairs.second], pairs.neighbor_inds)
    return set(zip(*(part.tolist() for part in lists)))


@pytest.mark.parametrize('size', [(48, 64), (96, 512)])  # the second is halved
@pytest.mark.parametrize('count', [0, 3])
def test_stpa_pairs_loss_and_gradient(count: int, size: tuple[int, int]) -> None:
    *inputs, logits = make_affinity_clip(count=count, height=size[0], width=size[1])
    loss = STPALoss()
    pairs = loss.build_pairs(*inputs)
    found = loss.build_pairs(*on_gpu_list(inputs))
    assert found.first.is_cuda and found.samples.weights.is_cuda
    # a pair at the threshold may fall on either side
    assert len(keys(pairs) ^ keys(found)) <= 1e-3 * pairs.num_pairs
    assert not count or pairs.num_pairs > 100

    results = []
    for where, of in ((logits, pairs), (logits.cuda(), on_gpu(pairs))):
        where = where.detach().requires_grad_()
        value = loss(where, of)
        results.append((value.detach().cpu(), torch.autograd.grad(value, where)[0].cpu()))
    torch.testing.assert_close(results[1][0], results[0][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[1][1], results[0][1], atol=1e-7, rtol=1e-3)


def on_gpu_list(values: list[Tensor]) -> list[Tensor]:
    return [value.cuda() for value in values]


def moving_alike(count: int) -> list[Tensor]:
    """Boxes that all move by 8 pixels a frame, so that they differ in number only."""
    lab, features, _, _, logits = make_affinity_clip(count=count, height=96, width=128)
    corners = torch.stack([torch.arange(count) % 4 * 8.0, torch.arange(count) % 3 * 8.0], -1)
    low = corners[:, None] + 8 * torch.arange(3)[None, :, None]
    boxes = torch.cat([low, low + 40], -1)
    masks = boxes_to_masks(boxes, (96, 128))
    return [lab, features, boxes / torch.tensor([128, 96, 128, 96]), masks, logits]


def test_waits_of_the_pairing_do_not_depend_on_instances() -> None:
    counts = []
    for count in (1, 2, 8, 32):
        *inputs, logits = on_gpu_list(moving_alike(count))
        logits.requires_grad_()
        loss = STPALoss()
        pairs = loss.build_pairs(*inputs)  # loads what is loaded lazily
        counts.append(count_waits(lambda: loss.build_pairs(*inputs)))  # noqa: B023
        assert count_waits(lambda: loss(logits, pairs).backward()) == 0  # noqa: B023
    assert len(set(counts)) == 1 and counts[0] > 0, counts


def make_step(count: int, device: str) -> tuple[BoxVIS, dict[str, Any]]:
    """A model whose pseudo masks all supervise, and a batch of one clip."""
    torch.manual_seed(0)
    model = make_boxvis().train()
    model.confidence = lambda progress: 0.0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith('sampling_offsets.bias'):
                parameter += 0.3  # at first samples lie on cell centres, where slopes jump
    low = [[(4 + 8 * t + 2 * i, 6 + 8 * t) for t in range(3)] for i in range(count)]
    objects = {
        i: (i % 4, [(x, y, x + 40, y + 34) for x, y in corners]) for i, corners in enumerate(low)
    }
    model = model.to(device)
    return model, make_batch(model, [make_clip()], [make_sample(objects)])


def run_step(model: BoxVIS, batch: dict[str, Any]) -> dict[str, Tensor]:
    losses = model(**batch, mode='loss')
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    return losses


@pytest.mark.parametrize('count', [0, 1, 3])
def test_training_step(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_on_cpu(monkeypatch)
    results = []
    for device in ('cpu', 'cuda'):
        model, batch = make_step(count, device)
        torch.manual_seed(1)
        losses = run_step(model, batch)
        assert all(value.device.type == device for value in losses.values())
        grads = {n: p.grad for n, p in model.student.named_parameters() if p.grad is not None}
        results.append((losses, grads))
    (expected, expected_grads), (losses, grads) = results
    assert losses.keys() == expected.keys() and grads.keys() == expected_grads.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].cpu(), value, atol=1e-3, rtol=1e-3, msg=name)
    total = torch.stack([grad.square().sum() for grad in expected_grads.values()]).sum().sqrt()
    apart = [(grads[n].cpu() - grad).square().sum() for n, grad in expected_grads.items()]
    assert torch.stack(apart).sum().sqrt() <= 0.01 * total


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_training_step_in_mixed_precision(dtype: torch.dtype) -> None:
    model, batch = make_step(2, 'cuda')
    expected = run_step(model, batch)
    with torch.autocast('cuda', dtype):
        losses = model(**batch, mode='loss')
    total = sum(value for name, value in losses.items() if 'loss' in name)
    total.backward()
    plain = sum(value for name, value in expected.items() if 'loss' in name)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, plain, atol=0, rtol=0.1)


def test_waits_of_a_step_do_not_depend_on_objects() -> None:
    counts = []
    for count in (2, 5):
        model, batch = make_step(count, 'cuda')
        run_step(model, batch)  # loads what is loaded lazily
        counts.append(count_waits(lambda: run_step(model, batch)))  # noqa: B023
    assert counts[0] == counts[1] > 0, counts


def test_straightforward_step_runs_and_agrees() -> None:
    from tests.models.tiny import network_cfg
    from tests.reference.training_step import PlainStep
    from tools.analysis_tools.measuring import prepare

    prepare('cuda')
    model, batch = make_step(2, 'cuda')
    # no pseudo mask is good enough: what is left does not depend on random points
    model.confidence = lambda progress: 2.0
    model.criterion.assigner.max_confidence = 2.0
    losses = model(**batch, mode='loss')
    expected = PlainStep(model, dict(network=network_cfg()), num_frames=3).losses(batch)
    last = len(model.student.track_head.transformer_decoder.layers)
    for name, value in expected.items():
        own = losses[name.removeprefix(f'd{last}.')]
        torch.testing.assert_close(own, value, atol=1e-3, rtol=1e-3, msg=name)


def test_predictions_and_video_segmenter() -> None:
    torch.manual_seed(0)
    model = make_boxvis(pseudo_masks=None).eval()
    frames, clip = make_video(6), make_clip().float()
    results = []
    for device in ('cpu', 'cuda'):
        segmenter = VideoSegmenter.from_model(model, device, pipeline=[])
        tracks = [sorted((r['category_id'], r['score']) for r in video_json(segmenter, frames))]
        prediction = model.predict_clip(clip)[-1]
        assert prediction.mask_logits.device.type == device
        results.append((tracks, prediction.mask_logits.cpu(), prediction.cls_logits.cpu()))
    for expected, found in zip(results[0][1:], results[1][1:]):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    (expected,), (found,) = results[0][0], results[1][0]
    assert [label for label, _ in found] == [label for label, _ in expected]
    scores = [torch.tensor([score for _, score in tracks]) for tracks in (found, expected)]
    torch.testing.assert_close(*scores, atol=1e-3, rtol=0)


def video_json(segmenter: VideoSegmenter, frames: list[Any]) -> list[dict]:
    assert [result.index for result in segmenter(frames)] == list(range(len(frames)))
    return segmenter.to_json()


@pytest.mark.slow
def test_resumed_run_goes_on_as_the_unbroken_one(tmp_path: Path) -> None:
    """Sums on a GPU come in any order: close, not equal."""
    cfg = make_config(tmp_path)
    cfg.train_cfg.update(max_iters=6)
    cfg.dump(tmp_path / 'run.py')

    def train(name: str, *options: str) -> dict[str, Any]:
        command = [sys.executable, 'tools/train.py', str(tmp_path / 'run.py')]
        done = subprocess.run(
            [*command, '--work-dir', str(tmp_path / name), *options],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return torch.load(tmp_path / name / 'iter_6.pth', weights_only=True)

    unbroken = train('unbroken')
    (tmp_path / 'resumed').mkdir()
    shutil.copy(tmp_path / 'unbroken' / 'iter_3.pth', tmp_path / 'resumed')
    resumed = train('resumed', '--resume')
    assert resumed['meta']['iter'] == 6
    for name, value in unbroken['state_dict'].items():
        torch.testing.assert_close(
            resumed['state_dict'][name], value, atol=1e-4, rtol=1e-3, msg=name
        )
    losses = [
        saved['message_hub']['log_scalars']['train/loss']['values'][-3:]
        for saved in (unbroken, resumed)
    ]
    torch.testing.assert_close(*map(torch.as_tensor, losses), atol=0.05, rtol=0.05)
