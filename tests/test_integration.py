"""The main job in small: draw data, train from boxes, resume, test, score, submit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmboxvis.datasets import generate_toyvis
from mmboxvis.evaluation import check_submission
from mmboxvis.evaluation.functional import evaluate_vis

ROOT = Path(__file__).resolve().parents[1]
TOY = dict(num_train=4, num_val=4, seed=3, size=[64, 96])


@pytest.fixture(scope='module')
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny ToyVIS config on 4 small videos, with few queries and points."""
    folder = tmp_path_factory.mktemp('toy')
    generate_toyvis(folder / 'data', **TOY)
    cfg = Config.fromfile(ROOT / 'configs/boxvis/boxvis_tiny_toyvis.py')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.update(data_root=str(folder / 'data'), generate=None)
        loader.update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.update(batch_size=2)
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform['type'] == 'ClipResizeShortEdge':
            transform.update(short_edges=(64,), max_long=96)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        evaluator.ann_file = str(folder / 'data/val/instances.json')
    cfg.train_cfg.update(max_iters=6, val_interval=6)
    cfg.default_hooks.checkpoint.update(interval=3)
    cfg.default_hooks.logger.update(interval=1)
    path = folder / 'config.py'
    cfg.dump(path)
    return path


def _run(*arguments: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=ROOT,
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', **environment},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_train_resume_test_score_submit(config: Path, tmp_path: Path) -> None:
    train = [sys.executable, 'tools/train.py', config, '--work-dir', tmp_path / 'run']
    log = _run(*train)
    assert 'loss_proj' in log and 'loss_pair' in log and 'pseudo_threshold' in log
    assert 'AP_50' in log

    log = _run(*train, '--resume', '--cfg-options', 'train_cfg.max_iters=8')
    assert 'Iter(train) [7/8]' in log and 'Iter(train) [6/8]' not in log
    checkpoint = tmp_path / 'run' / 'iter_8.pth'
    state = CheckpointLoader.load_checkpoint(str(checkpoint), 'cpu')['state_dict']
    assert any(name.startswith('teacher.') for name in state)

    out = tmp_path / 'results.json'
    _run(
        sys.executable, 'tools/test.py', config, checkpoint,
        '--work-dir', tmp_path / 'test', '--out', out, '--show-dir', tmp_path / 'shown',
        '--report', tmp_path / 'report.html',
    )  # fmt: skip
    metrics = json.loads((tmp_path / 'test' / 'metrics.json').read_text())
    truth = json.loads((config.parent / 'data/val/instances.json').read_text())
    results = json.loads(out.read_text())
    assert evaluate_vis(truth, results)['AP'] == pytest.approx(metrics['AP'])
    assert {'AP', 'AP_50', 'AP_75', 'AR_1', 'AR_10', 'test_seconds'} <= metrics.keys()
    assert check_submission(results, truth) == []
    with zipfile.ZipFile(out.with_suffix('.zip')) as archive:
        assert json.loads(archive.read('results.json')) == results
    assert len(list((tmp_path / 'shown').iterdir())) == len(truth['videos'])
    page = (tmp_path / 'report.html').read_text()
    assert f'<dt>AP</dt><dd>{100 * metrics["AP"]:.1f}</dd>' in page and 'class="clip"' in page


REPORTER = """
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class TeacherOfEachRank(Hook):
    def __init__(self, folder):
        self.folder = folder

    def after_train(self, runner):
        teacher = runner.model.module.teacher.state_dict()
        torch.save(teacher, f'{self.folder}/{get_rank()}.pth')
"""


@pytest.mark.slow
def test_two_processes_share_one_teacher(config: Path, tmp_path: Path) -> None:
    (tmp_path / 'reporter.py').write_text(REPORTER)
    cfg = Config.fromfile(config)
    cfg.custom_imports = dict(imports=['reporter'], allow_failed_imports=False)
    cfg.custom_hooks.append(dict(type='TeacherOfEachRank', folder=str(tmp_path)))
    cfg.train_cfg.update(max_iters=3, val_interval=10)
    cfg.dump(tmp_path / 'two.py')
    _run(
        'bash', 'tools/dist_train.sh', tmp_path / 'two.py', '2', '--work-dir', tmp_path / 'run',
        PYTHONPATH=f'{ROOT}:{tmp_path}', PYTHON=sys.executable,
        PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
    )  # fmt: skip
    first, second = (torch.load(tmp_path / f'{rank}.pth', weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    path = str(tmp_path / 'run' / 'iter_3.pth')
    student = CheckpointLoader.load_checkpoint(path, 'cpu')['state_dict']
    moved = [name for name in first if not torch.equal(first[name], student[f'student.{name}'])]
    assert moved, 'the teacher should lag behind the student'
