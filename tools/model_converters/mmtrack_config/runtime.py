"""Schedule, hooks, logging."""

from __future__ import annotations

from typing import Any

from mmengine.registry import Registry

from mmboxvis.registry import (
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISBACKENDS,
)

from .settings import ConversionError, Settings, unscope, unscoped


def carry(part: Settings, registry: Registry) -> dict[str, Any] | None:
    """A section as it stands, without package names; ``None`` where its type is unknown here."""
    content = unscope(part.everything())
    if 'type' in content and registry.get(content['type']) is None:
        part.refuse('has no counterpart and is left out')
        return None
    return content


def convert_schedule(root: Settings) -> dict[str, Any]:
    """Loops, optimiser and learning rate."""
    converted: dict[str, Any] = {}
    for key in ('train_cfg', 'val_cfg', 'test_cfg'):
        if key in root and (loop := carry(root.part(key), LOOPS)) is not None:
            converted[key] = loop
    if 'optim_wrapper' in root:
        part = root.part('optim_wrapper')
        part.expect(constructor='DefaultOptimWrapperConstructor')
        wrapper = carry(part, OPTIM_WRAPPERS) or {}
        optimizer = wrapper.get('optimizer', {}).get('type')
        if OPTIMIZERS.get(str(optimizer)) is None:
            raise ConversionError(f'optim_wrapper.optimizer.type {optimizer!r} is unknown')
        converted['optim_wrapper'] = {**wrapper, 'constructor': 'StudentOptimWrapperConstructor'}
    schedulers = [carry(part, PARAM_SCHEDULERS) for part in root.parts('param_scheduler')]
    if schedulers:
        converted['param_scheduler'] = [part for part in schedulers if part is not None]
    return converted


def convert_hooks(root: Settings, boxes_only: bool) -> dict[str, Any]:
    """Default and custom hooks; the drawing of tracks becomes ours."""
    default: dict[str, Any] = {}
    custom: list[dict[str, Any]] = []
    hooks = root.part('default_hooks')
    for key in hooks:
        part = hooks.part(key)
        if unscoped(str(part.peek('type'))) != 'TrackVisualizationHook':
            if (hook := carry(part, HOOKS)) is not None:
                default[key] = hook
            continue
        part.skip('type', 'interval', 'wait_time')
        part.expect(show=False)
        overlay = {
            ours: part.take(theirs)
            for ours, theirs in (('score_thr', 'score_thr'), ('out_dir', 'test_out_dir'))
            if theirs in part
        }
        if part.take('draw', False):
            custom.append(dict(type='VideoOverlayHook', **overlay))
    found = [carry(part, HOOKS) for part in root.parts('custom_hooks')]
    custom += [hook for hook in found if hook is not None]
    if boxes_only:
        custom.append(dict(type='EMATeacherHook', momentum=0.001))
    return dict(default_hooks=default, custom_hooks=custom)


def convert_runtime(root: Settings) -> dict[str, Any]:
    """Logging, environment, seeds and where to start from."""
    converted: dict[str, Any] = {}
    if 'log_processor' in root:
        converted['log_processor'] = carry(root.part('log_processor'), LOG_PROCESSORS)
    backends = [carry(part, VISBACKENDS) for part in root.parts('vis_backends')]
    root.skip('visualizer', 'default_scope')
    if backends:
        converted['visualizer'] = dict(
            type='Visualizer', vis_backends=[part for part in backends if part is not None]
        )
    for key in ('env_cfg', 'log_level', 'randomness', 'auto_scale_lr', 'resume', 'work_dir'):
        if key in root:
            converted[key] = root.take(key)
    start = root.part('model').part('init_cfg')
    start.skip('type')
    checkpoint = start.take('checkpoint')
    load_from = root.take('load_from', checkpoint)
    if load_from is not None:
        converted['load_from'] = load_from
        if '/mmdetection/v2.0/' in load_from:
            root.note(
                'load_from: weights of mmdet 2.x name the decoder layers otherwise; take the file '
                'of the same model that mmdet 3.x lists'
            )
    return converted
