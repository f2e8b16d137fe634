from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor, nn

from mmboxvis.engine.hooks import EMATeacherHook
from mmboxvis.models.vis import BoxVIS
from tests.models.tiny import make_boxvis


@pytest.fixture(autouse=True)
def _no_scope_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())


class TwoLayers(BaseModel):
    """Student and teacher of one linear layer; keeps what it was at each forward pass."""

    copy_student_to_teacher = BoxVIS.copy_student_to_teacher
    update_teacher = BoxVIS.update_teacher
    set_progress = BoxVIS.set_progress

    def __init__(self, teacher_loaded: bool = False) -> None:
        super().__init__()
        self.student = nn.Linear(3, 2)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.teacher_loaded = teacher_loaded
        self.progress = 0.0
        self.seen: list[tuple[Tensor, Tensor, float]] = []

    def forward(self, inputs: list[Tensor], mode: str = 'tensor', **kwargs: Any) -> dict:
        weights = (self.student.weight, self.teacher.weight)
        student, teacher = (weight.detach().clone() for weight in weights)
        self.seen.append((student, teacher, self.progress))
        return dict(loss=self.student(torch.stack(inputs)).square().mean())


def run(
    model: BaseModel, folder: Path, max_iters: int = 4, momentum: float = 0.25, accumulate: int = 1
) -> Runner:
    data = [dict(inputs=torch.randn(3)) for _ in range(8)]
    runner = Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader=dict(
            dataset=data,
            batch_size=2,
            sampler=dict(type='InfiniteSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=False, max_iters=max_iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.5), accumulative_counts=accumulate),
        custom_hooks=[EMATeacherHook(momentum=momentum)],
        default_hooks=dict(checkpoint=None),
        default_scope='mmboxvis',
        experiment_name=folder.name,
        log_level='ERROR',
    )
    runner.train()
    return runner


def fake_runner(model: nn.Module, iteration: int = 0, max_iters: int = 10) -> Any:
    return SimpleNamespace(model=model, iter=iteration, max_iters=max_iters)


def test_teacher_moves_before_each_forward_pass(tmp_path: Path) -> None:
    model = TwoLayers()
    run(model, tmp_path)
    assert len(model.seen) == 4
    teacher = model.seen[0][0]  # the first update changes nothing
    for i, (student, seen_teacher, _) in enumerate(model.seen):
        if i:
            assert not torch.equal(student, model.seen[i - 1][0])
        teacher = 0.75 * teacher + 0.25 * student
        torch.testing.assert_close(seen_teacher, teacher)


def test_teacher_moves_once_a_step_of_accumulated_gradients(tmp_path: Path) -> None:
    model = TwoLayers()
    run(model, tmp_path, max_iters=6, accumulate=3)
    teachers = [teacher for _, teacher, _ in model.seen]
    assert all(torch.equal(teachers[i], teachers[i + 1]) for i in (0, 1, 3, 4))
    student = model.seen[3][0]
    assert not torch.equal(student, model.seen[2][0])
    torch.testing.assert_close(teachers[3], 0.75 * teachers[0] + 0.25 * student)


def test_progress_counts_from_one(tmp_path: Path) -> None:
    model = TwoLayers()
    run(model, tmp_path)
    assert [progress for *_, progress in model.seen] == [0.25, 0.5, 0.75, 1.0]


def test_fresh_run_starts_with_equal_networks(tmp_path: Path) -> None:
    model = TwoLayers()
    nn.init.zeros_(model.teacher.weight)
    run(model, tmp_path, max_iters=1)
    student, teacher, _ = model.seen[0]
    assert torch.equal(student, teacher)


def test_teacher_of_the_checkpoint_is_kept(tmp_path: Path) -> None:
    model = TwoLayers(teacher_loaded=True)
    nn.init.zeros_(model.teacher.weight)
    run(model, tmp_path, max_iters=1)
    student, teacher, _ = model.seen[0]
    torch.testing.assert_close(teacher, 0.25 * student)


def test_resumed_run_copies_nothing() -> None:
    model = TwoLayers()
    nn.init.zeros_(model.teacher.weight)
    EMATeacherHook().before_train(fake_runner(model, iteration=3))
    assert not model.teacher.weight.any()


@pytest.mark.parametrize('momentum', [0.001, 0.3])
def test_closed_form(momentum: float) -> None:
    model = make_boxvis()
    hook = EMATeacherHook(momentum=momentum)
    hook.before_train(fake_runner(model))
    start = {name: p.clone() for name, p in model.teacher.named_parameters()}
    students = []
    for i in range(3):
        with torch.no_grad():
            for parameter in model.student.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter))
        students.append({name: p.detach().clone() for name, p in model.student.named_parameters()})
        hook.before_train_iter(fake_runner(model, iteration=i), i)
    keep = 1 - momentum
    for name, parameter in model.teacher.named_parameters():
        wanted = keep**3 * start[name] + momentum * sum(
            keep ** (2 - i) * student[name] for i, student in enumerate(students)
        )
        torch.testing.assert_close(parameter, wanted)


def test_buffers_and_frozen_parameters_stay() -> None:
    model = make_boxvis()
    with torch.no_grad():
        model.student.backbone.bn1.running_mean.fill_(5)
        model.student.backbone.bn1.weight.fill_(5)
    EMATeacherHook(momentum=0.5).before_train_iter(fake_runner(model), 0)
    assert not model.teacher.backbone.bn1.running_mean.any()
    assert (model.teacher.backbone.bn1.weight == 1).all()


def test_a_model_without_a_teacher_is_left_alone() -> None:
    model = make_boxvis(pseudo_masks=None)
    hook = EMATeacherHook()
    hook.before_train(fake_runner(model))
    hook.before_train_iter(fake_runner(model), 0)
    assert model.teacher is None
    assert model.progress == 0.1


@pytest.mark.parametrize('momentum', [0, 1, -0.1, 1.5])
def test_momentum_out_of_range_is_an_error(momentum: float) -> None:
    with pytest.raises(ValueError, match='momentum'):
        EMATeacherHook(momentum=momentum)


def test_another_model_is_an_error() -> None:
    with pytest.raises(TypeError, match='remove the hook'):
        EMATeacherHook().before_train(fake_runner(nn.Linear(2, 2)))
