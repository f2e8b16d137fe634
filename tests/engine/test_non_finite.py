"""Numbers that go bad: the step is left out, counted, reported, and can be repeated."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmboxvis.engine import FiniteOptimWrapper, NonFiniteHook
from mmboxvis.engine.batch_dump import describe_batch, pack_batch, unpack_batch
from mmboxvis.engine.hooks.non_finite_hook import NonFiniteError
from mmboxvis.registry import HOOKS
from tests.engine.small_runs import Run, load_main, make_config
from tests.models.tiny import TWO_OBJECTS, make_clip, make_sample


def make_wrapper(**kwargs: Any) -> tuple[nn.Linear, FiniteOptimWrapper]:
    layer = nn.Linear(3, 1)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    return layer, FiniteOptimWrapper(optimizer, **kwargs)


def weights(layer: nn.Linear) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for p in layer.parameters()])


class TestFiniteSteps:
    def test_a_good_step_is_that_of_mmengine(self) -> None:
        layer, wrapper = make_wrapper(clip_grad=dict(max_norm=0.5))
        twin = copy.deepcopy(layer)
        optimizer = torch.optim.AdamW(twin.parameters(), lr=0.1)
        x = torch.rand(4, 3)
        for _ in range(3):
            wrapper.update_params(layer(x).square().mean())
            optimizer.zero_grad()
            twin(x).square().mean().backward()
            norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
            optimizer.step()
            assert wrapper.grad_norm == float(norm) and not wrapper.skipped
        assert torch.equal(weights(layer), weights(twin))

    @pytest.mark.parametrize('clip', [None, 'norm', 'value'])
    @pytest.mark.parametrize('bad', ['nan loss', 'inf loss', 'inf loss, no gradient', 'gradient'])
    def test_a_bad_step_changes_nothing(self, clip: str | None, bad: str) -> None:
        limits = dict(norm=dict(max_norm=1.0), value=dict(type='value', clip_value=1.0))
        layer, wrapper = make_wrapper(clip_grad=limits.get(clip or ''))
        x = torch.rand(4, 3)
        wrapper.update_params(layer(x).square().mean())
        before, state = weights(layer), copy.deepcopy(wrapper.optimizer.state_dict())
        loss = layer(x).square().mean()
        if bad == 'gradient':  # sqrt(0) is finite and its slope is not
            loss = (layer(x) * 0).square().mean().sqrt()
        else:
            loss = loss + {'nan loss': torch.nan, 'inf loss': torch.inf}.get(bad, torch.inf)
        wrapper.update_params(loss)
        assert wrapper.skipped
        assert torch.equal(weights(layer), before)
        for number, values in wrapper.optimizer.state_dict()['state'].items():
            assert all(torch.equal(values[k], state['state'][number][k]) for k in values)
        wrapper.update_params(layer(x).square().mean())
        assert not wrapper.skipped and not torch.equal(weights(layer), before)
        assert torch.isfinite(weights(layer)).all()


class TestAccumulation:
    def test_only_every_other_call_comes_to_a_step(self) -> None:
        layer, wrapper = make_wrapper(accumulative_counts=2)
        before, seen = weights(layer), []
        for number in range(4):
            with wrapper.optim_context(layer):
                loss = layer(torch.rand(4, 3)).square().mean()
            wrapper.update_params(loss * (torch.nan if number == 0 else 1))
            seen.append((wrapper.updated, wrapper.skipped, torch.equal(weights(layer), before)))
        waits, left_out, taken = (False, False, True), (True, True, True), (True, False, False)
        assert seen == [waits, left_out, waits, taken]

    def test_a_step_is_laid_to_the_part_that_was_bad(self, tmp_path: Path) -> None:
        runner, hook = make_runner(tmp_path), NonFiniteHook(max_in_a_row=2)
        first, second = make_batch(), make_batch()
        second['data_samples'] = [
            make_sample(TWO_OBJECTS, video_id=9, video_name='innocent', frame_ids=[0, 1, 2])
        ]

        def step(iteration: int, batch: dict[str, Any], loss: float, updated: bool) -> None:
            runner.iter, runner.optim_wrapper.updated = iteration, updated
            hook.after_train_iter(runner, 0, batch, dict(loss=torch.tensor(loss)))  # type: ignore[arg-type]

        step(0, first, float('nan'), updated=False)
        assert not runner.logger and not hook.in_a_row
        step(1, second, 1.0, updated=True)
        (line,) = runner.logger
        assert 'loss nan' in line and 'park' in line and 'innocent' not in line
        step(2, first, float('nan'), updated=False)
        with pytest.raises(NonFiniteError):
            step(3, second, 1.0, updated=True)
        (dump,) = tmp_path.glob('non_finite_*.pth')
        assert dump.name == 'non_finite_iter_3_rank_0.pth'
        names = describe_batch(unpack_batch(torch.load(dump, weights_only=True)['batch']))
        assert any('park' in name for name in names)


class Lines(list):
    """A logger that keeps what it is told."""

    def warning(self, text: str) -> None:
        self.append(text)


def make_runner(tmp_path: Path, skipped: bool = True) -> SimpleNamespace:
    _, wrapper = make_wrapper()
    wrapper.updated, wrapper.skipped, wrapper.grad_norm = True, skipped, float('nan')
    model = nn.Linear(2, 2)
    return SimpleNamespace(
        iter=4,
        seed=3,
        work_dir=str(tmp_path),
        logger=Lines(),
        message_hub=wrapper.message_hub,
        optim_wrapper=wrapper,
        model=model,
        cfg=Config(dict(model=dict(type='Linear'))),
    )


def make_batch() -> dict[str, Any]:
    sample = make_sample(TWO_OBJECTS, video_id=7, video_name='park', frame_ids=[3, 5, 6])
    other = make_sample(
        {}, mask_size=(64, 96), video_id=8, video_name='street', frame_ids=[0, 1, 2]
    )
    return dict(inputs=[make_clip(), make_clip(seed=1)], data_samples=[sample, other])


class TestHook:
    def test_report_names_losses_videos_and_frames(self, tmp_path: Path) -> None:
        runner, hook = make_runner(tmp_path), NonFiniteHook()
        losses = dict(loss=torch.tensor(torch.nan), loss_cls=torch.tensor(1.0))
        hook.after_train_iter(runner, 4, make_batch(), losses)  # type: ignore[arg-type]
        (line,) = runner.logger
        assert line.startswith('step 5 is left out, 1 in a row') and 'loss nan' in line
        assert 'park (id 7), frames 3 5 6; street (id 8), frames 0 1 2' in line
        assert 'loss_cls' not in line

    def test_a_gradient_alone_is_told(self, tmp_path: Path) -> None:
        runner, hook = make_runner(tmp_path), NonFiniteHook()
        hook.after_train_iter(runner, 4, make_batch(), dict(loss=1.0))  # type: ignore[arg-type]
        assert 'finite losses, but a gradient of norm nan' in runner.logger[0]

    def test_losses_that_want_a_gradient_give_no_warning(self, tmp_path: Path) -> None:
        runner, hook = make_runner(tmp_path), NonFiniteHook()
        loss = torch.tensor(torch.nan, requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            hook.after_train_iter(runner, 4, make_batch(), dict(loss=loss))  # type: ignore[arg-type]
        assert 'loss nan' in runner.logger[0]

    def test_good_steps_in_between_start_the_count_anew(self, tmp_path: Path) -> None:
        hook = NonFiniteHook(max_in_a_row=2)
        for skipped in (True, False, True, False):
            runner = make_runner(tmp_path, skipped)
            hook.after_train_iter(runner, 4, make_batch(), {})  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())
        with pytest.raises(ValueError, match='at least 1'):
            NonFiniteHook(0)


def test_batch_survives_the_file(tmp_path: Path) -> None:
    batch = make_batch()
    torch.save(pack_batch(batch), tmp_path / 'a.pth')
    again = unpack_batch(torch.load(tmp_path / 'a.pth', weights_only=True))
    assert describe_batch(again) == describe_batch(batch)
    assert all(torch.equal(a, b) for a, b in zip(again['inputs'], batch['inputs']))
    for first, second in zip(again['data_samples'], batch['data_samples']):
        for a, b in zip(first, second):
            assert a.metainfo == b.metainfo
            assert torch.equal(a.gt_instances.bboxes, b.gt_instances.bboxes)
            assert torch.equal(a.gt_instances.instances_ids, b.gt_instances.instances_ids)
    assert again['data_samples'][1][0].gt_instances.masks.masks.shape == (0, 64, 96)


@HOOKS.register_module()
class PoisonHook(Hook):
    """From one step on the student's class layer gives nan."""

    priority = 'LOWEST'

    def __init__(self, step: int) -> None:
        self.step = step

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Spoils one bias, without which everything else would be fine."""
        if runner.iter + 1 == self.step:
            runner.model.student.track_head.cls_embed.bias.data[0] = torch.nan


@pytest.mark.slow
def test_run_stops_and_the_dump_reproduces_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = make_config(tmp_path)
    cfg.custom_hooks.append(dict(type='PoisonHook', step=4))
    cfg.default_hooks.non_finite.max_in_a_row = 3
    run = Run(cfg, tmp_path / 'run')
    assert run.start().wait() == [1]
    log = run.log()
    assert 'step 4 is left out, 1 in a row, 1 in all' in log and 'loss_cls nan' in log
    assert '3 steps in a row' in log and len(run.diary()) == 6
    (dump,) = run.folder.glob('non_finite_iter_6_rank_0.pth')
    replay = load_main('tools/misc/replay_batch.py')
    with pytest.raises(SystemExit) as stop:
        replay([str(dump)])
    assert stop.value.code == 1
    shown = capsys.readouterr().out
    # the teacher, which runs first, has taken the poison over by its average
    first = 'first module with an output that is not finite: '
    assert first + 'teacher.track_head.cls_embed' in shown, shown
    assert 'The step is reproduced' in shown
    # losses that the poison does not reach come out as recorded
    content = torch.load(dump, weights_only=True)
    value = content['losses']['pairs_per_instance']
    assert f'{value:<14.8g} recorded {value:<14.8g}' in shown
    with pytest.raises(SystemExit, match='is no dump of a step'):
        replay([str(run.folder / 'iter_3.pth')])
