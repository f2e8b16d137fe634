"""Registries of mmboxvis, one for each kind, as children of mmdet's.

With mmdet as the parent and ``default_scope='mmboxvis'``, a config may name our classes and
mmdet's alike without a prefix. Every kind that is used has its child here: a kind without one
would fall back to mmengine's root registry and miss mmdet's classes.
"""

from mmdet import registry as _mmdet
from mmengine.registry import Registry

_SCOPE = 'mmboxvis'


def _child(kind: str, parent: Registry, *locations: str) -> Registry:
    return Registry(
        kind, parent=parent, scope=_SCOPE, locations=[f'{_SCOPE}.{name}' for name in locations]
    )


MODELS = _child('model', _mmdet.MODELS, 'models')
TASK_UTILS = _child('task util', _mmdet.TASK_UTILS, 'models')
MODEL_WRAPPERS = _child('model_wrapper', _mmdet.MODEL_WRAPPERS, 'models')
WEIGHT_INITIALIZERS = _child('weight initializer', _mmdet.WEIGHT_INITIALIZERS, 'models')

DATASETS = _child('dataset', _mmdet.DATASETS, 'datasets')
DATA_SAMPLERS = _child('data sampler', _mmdet.DATA_SAMPLERS, 'datasets')
TRANSFORMS = _child('transform', _mmdet.TRANSFORMS, 'datasets')

RUNNERS = _child('runner', _mmdet.RUNNERS, 'engine')
RUNNER_CONSTRUCTORS = _child('runner constructor', _mmdet.RUNNER_CONSTRUCTORS, 'engine')
LOOPS = _child('loop', _mmdet.LOOPS, 'engine')
HOOKS = _child('hook', _mmdet.HOOKS, 'engine', 'visualization')
OPTIMIZERS = _child('optimizer', _mmdet.OPTIMIZERS, 'engine')
OPTIM_WRAPPERS = _child('optim_wrapper', _mmdet.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    'optimizer constructor', _mmdet.OPTIM_WRAPPER_CONSTRUCTORS, 'engine'
)
PARAM_SCHEDULERS = _child('parameter scheduler', _mmdet.PARAM_SCHEDULERS, 'engine')
LOG_PROCESSORS = _child('log_processor', _mmdet.LOG_PROCESSORS, 'engine')

METRICS = _child('metric', _mmdet.METRICS, 'evaluation')
EVALUATOR = _child('evaluator', _mmdet.EVALUATOR, 'evaluation')

VISUALIZERS = _child('visualizer', _mmdet.VISUALIZERS, 'visualization')
VISBACKENDS = _child('vis_backend', _mmdet.VISBACKENDS, 'visualization')
