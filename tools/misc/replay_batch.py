"""Repeat the step that ended a run: ``python tools/misc/replay_batch.py DUMP``.

Prints every loss beside the recorded one, the first module that gave a number that is not finite,
and the parameters whose gradient is not. Exits with 1 if it found any, with 0 if not.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner.amp import autocast
from torch import Tensor, nn

from mmboxvis.engine.batch_dump import FORMAT, describe_batch, unpack_batch
from mmboxvis.engine.checkpoint_files import CheckpointError, read_checkpoint
from mmboxvis.engine.hooks.step_seed_hook import step_seed
from mmboxvis.registry import MODELS
from mmboxvis.seeding import seed_all

MIXED = ('AmpOptimWrapper', 'AutocastOptimWrapper', 'FiniteAmpOptimWrapper')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Repeat a step whose numbers were not finite')
    parser.add_argument('dump', help='the file non_finite_iter_*.pth that the run left')
    parser.add_argument('--device', default='cpu', help='default: cpu')
    parser.add_argument(
        '--anomaly', action='store_true', help="name the operation, with torch's anomaly detection"
    )
    return parser.parse_args(argv)


def read_dump(path: str) -> dict[str, Any]:
    """Load a dump.

    Raises:
        CheckpointError: If it is broken or no dump.
    """
    dump = read_checkpoint(path)
    if dump.get('format') != FORMAT or 'batch' not in dump:
        raise CheckpointError(f'{path} is no dump of a step: expected one of non_finite_iter_*.pth')
    return dump


def build_model(dump: dict[str, Any], cfg: Config, device: str) -> nn.Module:
    """Build the model as it was in the step."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmboxvis')):
        model: Any = MODELS.build(cfg.model)
    model.load_state_dict(dump['state_dict'])
    if hasattr(model, 'set_progress'):
        model.set_progress(dump['progress'])
    return model.to(device).train()


def watch(model: nn.Module) -> list[str]:
    """Have the modules note their names when an output of theirs is not finite, in order."""
    noted: list[str] = []

    def note(name: str) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if not all(bool(torch.isfinite(x).all()) for x in floats(output)):
                noted.append(name)

        return hook

    for name, module in model.named_modules():
        module.register_forward_hook(note(name or 'model'))
    return noted


def floats(value: Any) -> list[Tensor]:
    """The floating-point tensors of nested sequences and dicts."""
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    return [x for part in value for x in floats(part)] if isinstance(value, (list, tuple)) else []


def repeat(dump: dict[str, Any], device: str, anomaly: bool) -> bool:
    """Run the step forward and back and print what it gives.

    Returns:
        Whether all numbers are finite.
    """
    cfg = Config.fromstring(dump['config'], file_format='.py')
    model: Any = build_model(dump, cfg, device)
    noted = watch(model)
    batch = unpack_batch(dump['batch'])
    print('\n'.join(describe_batch(batch)))
    mixed = str(cfg.optim_wrapper.type).rpartition('.')[2] in MIXED
    seed_all(step_seed(dump['seed'], dump['iter'], dump['rank']))
    with torch.autograd.set_detect_anomaly(anomaly):
        with autocast() if mixed else nullcontext():
            losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
        total, values = model.parse_losses(losses)
        values = {name: value.detach() for name, value in values.items()}
        for name, value in values.items():
            number, recorded = float(value), dump['losses'].get(name, math.nan)
            mark = '' if math.isfinite(number) else '  <- not finite'
            print(f'{name:24} {number:<14.8g} recorded {recorded:<14.8g}{mark}')
        total.backward()
    bad = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
    ]
    if noted:
        print(f'first module with an output that is not finite: {noted[0]}')
    if bad:
        print(f'{len(bad)} parameters with such a gradient: {", ".join(bad[:5])} ...')
    fine = not noted and not bad and all(math.isfinite(float(x)) for x in values.values())
    print('All numbers are finite.' if fine else 'The step is reproduced: not finite.')
    return fine


def main(argv: Sequence[str] | None = None) -> None:
    """Repeat a step."""
    args = parse_args(argv)
    try:
        dump = read_dump(args.dump)
    except (CheckpointError, OSError) as error:
        sys.exit(f'replay_batch.py: error: {error}')
    if dump['world_size'] > 1:
        print(
            f'The step was one of {dump["world_size"]} processes; losses are averaged over their '
            'instances, so that here they differ by a factor.'
        )
    sys.exit(0 if repeat(dump, args.device, args.anomaly) else 1)


if __name__ == '__main__':
    main()
