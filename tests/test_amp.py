"""Mixed precision as ``tools/train.py --amp`` sets it up on a CPU: bfloat16, without scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmboxvis._cli import enable_amp
from mmboxvis.models.losses import projection_loss, pseudo_mask_loss, stpa_loss
from mmboxvis.models.task_modules import box_supervised_assigner, clip_assigner
from mmboxvis.models.vis import BoxVIS
from tests.models.tiny import TWO_OBJECTS, make_batch, make_boxvis, make_clip, make_sample

NUM_STEPS = 20
Log = list[dict[str, float]]

pytestmark = pytest.mark.skipif(
    get_device() != 'cpu', reason="with a GPU, --amp is float16 under mmengine's AmpOptimWrapper"
)


def make_model() -> BoxVIS:
    torch.manual_seed(0)
    model = make_boxvis().train()
    # every pseudo mask supervises, so that no loss and no matching cost is left out
    model.confidence.mode, model.confidence.value = 'constant', 0.0
    return model


def make_optimizer(model: BoxVIS, amp: bool) -> OptimWrapper:
    cfg = Config(
        dict(
            optim_wrapper=dict(
                type='OptimWrapper',
                constructor='StudentOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
                clip_grad=dict(max_norm=1.0, norm_type=2),
            )
        )
    )
    if amp:
        enable_amp(cfg)
        assert cfg.optim_wrapper.type == 'AutocastOptimWrapper'
    with DefaultScope.overwrite_default_scope('mmboxvis'):
        return build_optim_wrapper(model, cfg.optim_wrapper)


def clip_data(seed: int) -> dict[str, Any]:
    return dict(inputs=[make_clip(seed=seed)], data_samples=[make_sample(TWO_OBJECTS)])


def train(amp: bool) -> Log:
    """The losses of every step."""
    model = make_model()
    optimizer = make_optimizer(model, amp)
    log = []
    for step in range(NUM_STEPS):
        torch.manual_seed(step)  # the points of matching and losses are drawn from here
        losses = model.train_step(clip_data(step % 4), optimizer)
        model.update_teacher(0.01)
        log.append({name: value.detach().item() for name, value in losses.items()})
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32, name
        assert torch.isfinite(parameter).all(), name
    return log


def train_float16() -> Log:
    """The same steps as mmengine's ``AmpOptimWrapper`` takes them on a GPU, which it needs."""
    model = make_model()
    optimizer = make_optimizer(model, amp=False).optimizer
    # a scale at which no step overflows and is skipped, so that the steps are the same ones
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**8)
    log = []
    for step in range(NUM_STEPS):
        torch.manual_seed(step)
        batch = model.data_preprocessor(clip_data(step % 4), training=True)
        with torch.autocast('cpu', dtype=torch.float16):
            loss, losses = model.parse_losses(model(**batch, mode='loss'))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.student.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        model.update_teacher(0.01)
        log.append({name: value.detach().item() for name, value in losses.items()})
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    return log


@pytest.fixture(scope='module')
def logs() -> tuple[Log, Log]:
    """Of the same training in float32 and in mixed precision."""
    return train(amp=False), train(amp=True)


def curve(log: Log, name: str = 'loss') -> Tensor:
    return torch.tensor([step[name] for step in log], dtype=torch.float64)


def test_twenty_steps_are_finite(logs: tuple[Log, Log]) -> None:
    full, mixed = logs
    assert full[0].keys() == mixed[0].keys()
    for name in mixed[0]:
        assert torch.isfinite(curve(mixed, name)).all(), name


def test_twenty_steps_stay_near_float32(logs: tuple[Log, Log]) -> None:
    full, mixed = (curve(log).numpy() for log in logs)
    assert full[-5:].mean() < 0.8 * full[:5].mean(), 'where nothing is learnt nothing can differ'
    assert mixed[0] == pytest.approx(full[0], rel=0.005)
    assert mixed.mean() == pytest.approx(full.mean(), rel=0.05)
    # then the two go their own ways: another assignment of one instance is another loss
    assert mixed[-5:].mean() == pytest.approx(full[-5:].mean(), rel=0.1)
    assert (abs(mixed - full) / full).max() < 0.25


def test_float16_with_a_scaled_loss_stays_near_float32(logs: tuple[Log, Log]) -> None:
    full, half = logs[0], train_float16()
    curves = [curve(log).numpy() for log in (full, half)]
    for name in half[0]:
        assert torch.isfinite(curve(half, name)).all(), name
    assert curves[1][0] == pytest.approx(curves[0][0], rel=0.005)
    assert curves[1].mean() == pytest.approx(curves[0].mean(), rel=0.05)


def mixed_losses(model: BoxVIS) -> dict[str, Tensor]:
    """One forward pass as the optimiser's wrapper runs it."""
    batch = make_batch(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    with make_optimizer(model, amp=True).optim_context(model):
        return model(**batch, mode='loss')


def floats(value: Any) -> list[Tensor]:
    """The floating-point tensors of nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [x for part in value for x in floats(part)] if isinstance(value, (list, tuple)) else []


def test_backbone_and_query_decoder_run_in_bfloat16() -> None:
    model = make_model()
    seen: dict[str, torch.dtype] = {}
    for name, module in model.student.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(
                lambda _, __, out, name=name: seen.update({name: out.dtype})
            )
    mixed_losses(model)
    inside = {name: dtype for name, dtype in seen.items() if 'pixel_decoder' not in name}
    assert any(name.startswith('backbone') for name in inside)
    assert any('transformer_decoder' in name for name in inside)
    assert set(inside.values()) == {torch.bfloat16}


@pytest.mark.parametrize('owner', ['student', 'teacher'])
def test_pixel_decoder_stays_in_float32(owner: str) -> None:
    model = make_model()
    seen: dict[str, set[torch.dtype]] = {}
    decoder = getattr(model, owner).track_head.pixel_decoder
    for name, module in decoder.named_modules():
        if name:  # the decoder itself takes the backbone's bfloat16

            def note(_: nn.Module, args: Any, out: Any, name: str = name) -> None:
                seen.setdefault(name, set()).update(x.dtype for x in floats([args, out]))

            module.register_forward_hook(note)
    mixed_losses(model)
    assert any('self_attn' in name for name in seen) and any(
        'mask_feature' in name for name in seen
    )
    for name, dtypes in seen.items():
        assert dtypes <= {torch.float32}, name


FLOAT32_FUNCTIONS = {
    'matching by class': (box_supervised_assigner, 'classification_cost'),
    'matching by boxes': (box_supervised_assigner, 'projection_cost'),
    'matching by points, BCE': (clip_assigner, 'point_bce_cost'),
    'matching by points, dice': (clip_assigner, 'point_dice_cost'),
    'assignment': (clip_assigner, 'hungarian'),
    'projection': (projection_loss, 'resized_projections'),
    'projection, dice': (projection_loss, 'projection_dice'),
    'STPA, patch correlation': (stpa_loss, 'PatchCorrelation'),
    'STPA, colours': (stpa_loss, 'resize_to_nodes'),
    'STPA, loss': (stpa_loss, 'pairwise_loss'),
    'pseudo masks': (pseudo_mask_loss, 'sample_points'),
}


Calls = dict[str, list[tuple[set[torch.dtype], bool]]]


@pytest.fixture(scope='module')
def calls() -> Calls:
    """Dtypes in and out of each function in one step, and whether autocast was on."""
    noted: Calls = {name: [] for name in FLOAT32_FUNCTIONS}

    def note(name: str, inner: Callable) -> Callable:
        def noting(*args: Any, **kwargs: Any) -> Any:
            out = inner(*args, **kwargs)
            dtypes = {x.dtype for x in floats([args, kwargs, out])}
            noted[name].append((dtypes, torch.is_autocast_enabled('cpu')))
            return out

        return noting

    with pytest.MonkeyPatch.context() as patch:
        for name, (module, attribute) in FLOAT32_FUNCTIONS.items():
            patch.setattr(module, attribute, note(name, getattr(module, attribute)))
        losses = mixed_losses(make_model())
    assert all(value.dtype == torch.float32 for value in losses.values())
    return noted


@pytest.mark.parametrize('name', list(FLOAT32_FUNCTIONS))
def test_matching_and_losses_stay_in_float32(name: str, calls: Calls) -> None:
    assert calls[name], 'not called where it was looked for'
    for dtypes, under_autocast in calls[name]:
        assert dtypes == {torch.float32}
        # the assignment itself multiplies nothing
        assert not under_autocast or name == 'assignment'
