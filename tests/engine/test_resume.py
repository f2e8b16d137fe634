"""A run that was killed and resumed is the run that it would have been."""

from __future__ import annotations

import copy
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from mmboxvis.engine import RESUME_LATER, ResumableRunner
from mmboxvis.engine.hooks import StopOnSignalHook
from mmboxvis.registry import HOOKS
from tests.engine.small_runs import STEPS, Run, make_config
from tests.engine.test_checkpoint_files import Runs
from tests.engine.test_whole_checkpoint_hook import make_runner


@HOOKS.register_module()
class SlowValidationHook(Hook):
    """Leaves a file where validation has begun, and gives time to break it off."""

    def after_val_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Waits, the first time that the run comes here."""
        mark = Path(runner.work_dir) / 'validating'
        if not mark.exists():
            mark.touch()
            time.sleep(1)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('runs')


@pytest.fixture(scope='module')
def cfg(folder: Path) -> Config:
    return make_config(folder)


@pytest.fixture(scope='module')
def unbroken(cfg: Config, folder: Path) -> Run:
    return Run(cfg, folder / 'unbroken').finish()


def assert_equal(first: Any, second: Any, path: str = '') -> None:
    """Bit for bit, through dicts and sequences."""
    assert type(first) is type(second), path
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    elif isinstance(first, dict):
        assert list(first) == list(second), path
        for key in first:
            assert_equal(first[key], second[key], f'{path}.{key}')
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), path
        for i, (a, b) in enumerate(zip(first, second)):
            assert_equal(a, b, f'{path}.{i}')
    else:
        assert first == second, path


def assert_same_run(run: Run, reference: Run, name: str = f'iter_{STEPS}.pth') -> None:
    first, second = run.saved(name), reference.saved(name)
    assert any(key.startswith('teacher.') for key in first['state_dict'])
    for part in ('state_dict', 'optimizer', 'param_schedulers'):
        assert_equal(first[part], second[part], part)
    losses = [
        saved['message_hub']['log_scalars']['train/loss']['values'] for saved in (first, second)
    ]
    assert len(losses[0]) >= STEPS and torch.equal(*losses)
    for rank in range(run.world_size):
        # a step that was repeated was repeated with the same data
        assert sorted(set(run.diary(rank))) == sorted(reference.diary(rank))


@pytest.mark.slow
@pytest.mark.parametrize(('num_workers', 'world_size', 'kills'), [(0, 1, 4), (2, 1, 3), (0, 2, 3)])
def test_killed_and_resumed_is_bit_equal(
    cfg: Config, folder: Path, unbroken: Run, num_workers: int, world_size: int, kills: int
) -> None:
    cfg = copy.deepcopy(cfg)
    cfg.train_dataloader.update(num_workers=num_workers)
    reference = unbroken
    if world_size > 1:
        reference = Run(cfg, folder / f'unbroken_{world_size}', world_size).finish()
    dice = random.Random(10 * num_workers + world_size)
    run = Run(cfg, folder / f'killed_{num_workers}_{world_size}', world_size)
    for step in sorted(dice.sample(range(1, STEPS), kills)):
        run.start('--resume').kill_at(step, dice.uniform(0, 0.05))
        assert -signal.SIGKILL in run.wait()
    run.finish('--resume')
    assert_same_run(run, reference)


@pytest.mark.slow
def test_stopped_by_a_signal_saves_the_step_and_goes_on(
    cfg: Config, folder: Path, unbroken: Run
) -> None:
    cfg = copy.deepcopy(cfg)
    cfg.default_hooks.checkpoint.update(interval=1000)
    run = Run(cfg, folder / 'stopped')
    run.start().kill_at(8, number=signal.SIGTERM)
    assert run.wait() == [RESUME_LATER], run.log()[-3000:]
    assert (run.folder / 'interrupted').exists()
    (saved,) = run.folder.glob('iter_*.pth')
    step = int(saved.stem.removeprefix('iter_'))
    assert step == len(run.diary()) >= 8
    assert f'stopped after step {step}' in run.log()
    run.finish('--resume')
    assert len(run.diary()) == STEPS, 'no step was made twice'
    assert_same_run(run, unbroken)


def test_signals_mean_again_what_they_did_before_when_training_is_over(tmp_path: Path) -> None:
    hook, runner = StopOnSignalHook(['SIGUSR1']), SimpleNamespace(work_dir=tmp_path)
    before = signal.getsignal(signal.SIGUSR1)
    hook.before_train(runner)
    assert signal.getsignal(signal.SIGUSR1) != before
    hook.after_train(runner)
    assert signal.getsignal(signal.SIGUSR1) == before


def test_samples_go_on_in_their_order_where_the_config_has_no_seed(tmp_path: Path) -> None:
    first = make_runner(ResumableRunner, tmp_path)
    first.train()
    resumed = make_runner(ResumableRunner, tmp_path, dict(resume=True))
    assert resumed.seed != first.seed
    resumed.train()
    # mmengine takes the seed when the sampler has already been built with another
    assert resumed.train_dataloader.sampler.seed == resumed.seed == first.seed


def test_the_config_fixes_the_number_of_threads(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        make_runner(ResumableRunner, tmp_path, dict(cfg=dict(num_threads=before + 1)))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_a_frame_that_is_gone_costs_no_step(cfg: Config, folder: Path, unbroken: Run) -> None:
    """The steps before it are saved, and when it is back the run goes on as if nothing was."""
    cfg = copy.deepcopy(cfg)
    cfg.default_hooks.checkpoint.update(interval=1000)
    run = Run(cfg, folder / 'frame_gone')
    frames = Path(cfg.train_dataloader.dataset.data_root) / 'train/JPEGImages'
    run.start()
    while len(run.diary()) < 8 and run.processes[0].is_alive():
        time.sleep(0.01)
    frames.rename(frames.with_name('elsewhere'))
    try:
        assert run.wait() == [1]
    finally:
        frames.with_name('elsewhere').rename(frames)
    (saved,) = run.folder.glob('iter_*.pth')
    step = int(saved.stem.removeprefix('iter_'))
    assert step == len(run.diary()) >= 8
    assert f'cannot go on after step {step}' in run.log()
    assert 'not found' in run.log().splitlines()[-1]
    run.finish('--resume')
    assert len(run.diary()) == STEPS, 'no step was made twice'
    assert_same_run(run, unbroken)


@pytest.mark.slow
def test_nothing_to_resume_starts_from_the_configs_weights(
    cfg: Config, folder: Path, unbroken: Run
) -> None:
    cfg = copy.deepcopy(cfg)
    cfg.train_cfg.max_iters = 1
    cfg.load_from = str(unbroken.folder / f'iter_{STEPS}.pth')
    run = Run(cfg, folder / 'fresh')
    (run.folder / 'iter_7.pth').write_bytes(b'broken')
    run.finish('--resume')
    assert 'holds no checkpoint to resume: starting anew' in run.log()
    assert len(run.diary()) == 1
    first = run.saved('iter_1.pth')['state_dict']
    name = 'student.track_head.cls_embed.weight'
    # a step of the warm-up is far smaller than the way from a random start
    torch.testing.assert_close(first[name], unbroken.saved()['state_dict'][name], atol=1e-3, rtol=0)


def test_code_in_the_weights_of_a_config_without_a_runner_is_not_run(
    cfg: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmengine's runner, which such a config would get elsewhere, runs it."""
    monkeypatch.chdir(folder)
    torch.save(dict(state_dict={}, hostile=Runs()), folder / 'hostile.pth')
    cfg = copy.deepcopy(cfg)
    cfg.pop('runner_type')
    cfg.load_from = str(folder / 'hostile.pth')
    run = Run(cfg, folder / 'refused')
    assert run.start().wait() == [1]
    assert 'hostile.pth' in run.log().splitlines()[-1]
    assert not (folder / 'hacked').exists()


@pytest.mark.slow
def test_run_that_began_anew_does_not_go_on_with_the_one_before(cfg: Config, folder: Path) -> None:
    run = Run(cfg, folder / 'anew')
    run.finish('--cfg-options', 'train_cfg.max_iters=9')
    before = len(run.diary())
    assert 'starts anew' not in run.log()
    run.finish('--cfg-options', 'train_cfg.max_iters=3')
    assert 'writes over what an earlier one left' in run.log() and 'iter_9.pth' in run.log()
    run.finish('--resume', '--cfg-options', 'train_cfg.max_iters=5')
    assert 'iter_6.pth, iter_9.pth left out' in run.log()
    assert [line.split()[0] for line in run.diary()[before:]] == ['1', '2', '3', '4', '5']


@pytest.mark.slow
@pytest.mark.parametrize(('number', 'code'), [(signal.SIGTERM, RESUME_LATER), (signal.SIGKILL, -9)])
def test_validation_that_was_broken_off_is_repeated(
    cfg: Config, folder: Path, number: int, code: int
) -> None:
    """That of the last step, after which nothing else would be left to do."""
    cfg = copy.deepcopy(cfg)
    cfg.train_cfg.update(max_iters=6, val_interval=6, val_begin=1)
    cfg.default_hooks.logger.update(interval=1)
    cfg.default_hooks.slow = dict(type='SlowValidationHook')
    run = Run(cfg, folder / f'validation_{number}')
    run.start()
    while not (run.folder / 'validating').exists() and run.processes[0].is_alive():
        time.sleep(0.01)
    os.killpg(run.processes[0].pid, number)
    assert run.wait() == [code], run.log()[-3000:]
    assert (run.folder / 'interrupted').exists() == (number == signal.SIGTERM)
    assert not list(run.folder.glob('best_*.pth'))
    run.finish('--resume')
    assert 'the validation after step 6 has not been done: now it is' in run.log()
    assert len(run.diary()) == 6 and list(run.folder.glob('best_AP_iter_6.pth'))
    assert not (run.folder / 'interrupted').exists()
    validations = run.log().count('AP_50:')
    run.finish('--resume')
    assert run.log().count('AP_50:') == validations, 'one that is done is done'


def test_weights_that_fit_nothing_are_refused(cfg: Config, folder: Path) -> None:
    """As those of detectron2 that nobody converted."""
    torch.save(dict(model={'backbone.conv1.weight': torch.zeros(1)}), folder / 'detectron2.pth')
    cfg = copy.deepcopy(cfg)
    cfg.load_from = str(folder / 'detectron2.pth')
    run = Run(cfg, folder / 'fits_nothing')
    assert run.start().wait() == [1]
    assert 'holds none of the' in run.log().splitlines()[-1]
    assert 'from_official.py' in run.log().splitlines()[-1]


@pytest.mark.slow
def test_broken_newest_checkpoint_is_left_out(cfg: Config, folder: Path, unbroken: Run) -> None:
    run = Run(cfg, folder / 'truncated')
    run.finish('--cfg-options', 'train_cfg.max_iters=9')
    newest, older = run.folder / 'iter_9.pth', run.folder / 'iter_6.pth'
    assert older.exists() and not (run.folder / 'iter_3.pth').exists(), 'max_keep_ckpts is 2'
    newest.write_bytes(newest.read_bytes()[:-1000])
    (run.folder / '.iter_12.7.part.pth').write_bytes(b'half')
    run.finish('--resume')
    assert 'iter_9.pth is cut short or damaged' in run.log()
    assert not list(run.folder.glob('.*.part.pth'))
    for part in ('state_dict', 'optimizer'):
        assert_equal(run.saved()[part], unbroken.saved()[part], part)
