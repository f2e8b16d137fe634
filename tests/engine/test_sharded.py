"""Student and teacher with their weights dealt out over processes (FSDP), on the CPU over gloo."""

from __future__ import annotations

import copy
import multiprocessing
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch import Tensor

from mmboxvis.engine import FiniteOptimWrapper
from tests.models.tiny import TWO_OBJECTS, make_boxvis, make_clip, make_sample

ROOT = Path(__file__).resolve().parents[2]
WORLD_SIZE = 2
STEPS = 2
MOMENTUM = 0.1


def make_model() -> Any:
    torch.manual_seed(0)
    model = make_boxvis().train()
    model.confidence.mode, model.confidence.value = 'constant', 0.0
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.mul_(1.01)
    return model


def train(model: Any, network: Any, seeds: list[int], sharded: bool) -> list[float]:
    """Norms of the gradient over some steps; ``network`` is the model or its wrapper."""
    parameters = [p for p in model.student.parameters() if p.requires_grad]
    wrapper = FiniteOptimWrapper(
        torch.optim.SGD(parameters, lr=1e-2), clip_grad=dict(max_norm=1.0), sharded=sharded
    )
    norms = []
    for step in range(STEPS):
        model.update_teacher(MOMENTUM)
        data = dict(
            inputs=[make_clip(seed=seed) for seed in seeds],
            data_samples=[make_sample(TWO_OBJECTS) for _ in seeds],
        )
        torch.manual_seed(step)
        losses = network(**model.data_preprocessor(data, training=True), mode='loss')
        wrapper.update_params(model.parse_losses(losses)[0])
        norms.append(wrapper.grad_norm)
    return norms


def make_strategy(folder: Path) -> Any:
    """The config's, for models on the CPU.

    Left to itself mmengine takes a GPU's number, and asks for whole weights moved to the CPU, at
    which torch 2.13 crashes where they are on the CPU already.
    """
    cfg = Config.fromfile(ROOT / 'configs/boxvis/boxvis_r50_8xb2-15k_bvisd_fsdp.py').strategy
    wrapper = dict(cfg.model_wrapper, device_id=torch.device('cpu'))
    assert cfg.state_dict_cfg == 'full'
    whole = dict(
        state_dict_type='FULL_STATE_DICT',
        state_dict_config=dict(type='FullStateDictConfig'),
        optim_state_dict_config=dict(type='FullOptimStateDictConfig'),
    )
    changes = dict(model_wrapper=wrapper, state_dict_cfg=whole, work_dir=str(folder))
    return STRATEGIES.build(dict(cfg, **changes))


def work(rank: int, port: int, folder: Path) -> None:
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', rank=rank, world_size=WORLD_SIZE)
    model = make_model()
    strategy = make_strategy(folder)
    network = strategy._wrap_model(model)
    held = sum(p.numel() for p in model.teacher.parameters())
    model.copy_student_to_teacher()
    norms = train(model, network, [5], sharded=True)
    state = network.state_dict()
    if rank == 0:
        torch.save(dict(norms=norms, held=held, state=state), folder / 'sharded.pth')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_sharded_training_is_that_of_one_process(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context('fork')
    processes = [
        context.Process(target=work, args=(rank, port, tmp_path)) for rank in range(WORLD_SIZE)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0] * WORLD_SIZE

    model = make_model()
    model.copy_student_to_teacher()
    before: dict[str, Tensor] = copy.deepcopy(model.state_dict())
    norms = train(model, model, [5], sharded=False)  # both processes have this clip
    sharded = torch.load(tmp_path / 'sharded.pth', weights_only=True)
    assert sharded['norms'] == pytest.approx(norms, rel=1e-4)
    whole = sum(p.numel() for p in model.teacher.parameters())
    assert sharded['held'] == pytest.approx(whole / WORLD_SIZE, rel=0.01)
    assert sharded['state'].keys() == before.keys()
    moved = set()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(sharded['state'][name], value, rtol=1e-4, atol=1e-6, msg=name)
        if not torch.equal(value, before[name]):
            moved.add(name.split('.')[0])
    assert moved == {'student', 'teacher'}


def test_config_names_what_is_there(tmp_path: Path) -> None:
    cfg = Config.fromfile(ROOT / 'configs/boxvis/boxvis_r50_8xb2-15k_bvisd_fsdp.py')
    policy = FUNCTIONS.get(cfg.strategy.model_wrapper.auto_wrap_policy)
    model = make_model()
    units = {name for name, module in model.named_modules() if policy(module=module, recurse=False)}
    assert units == {'student', 'teacher'}
    assert policy(module=model, recurse=True)
    assert cfg.optim_wrapper.type == 'FiniteOptimWrapper' and cfg.optim_wrapper.sharded
    assert make_strategy(tmp_path)._is_full_state_dict()
