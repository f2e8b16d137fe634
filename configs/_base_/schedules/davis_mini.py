"""Runtime and schedule of the small networks on davis_mini: scored and kept every 400 steps."""

from mmengine.config import read_base

with read_base():
    from ..default_runtime import *
    from .tiny import *

max_iters = 1600
train_cfg.update(max_iters=max_iters, val_interval=400)
param_scheduler[1].update(end=max_iters)
default_hooks['checkpoint'].update(interval=400, max_keep_ckpts=2)
auto_scale_lr.update(base_batch_size=2)
