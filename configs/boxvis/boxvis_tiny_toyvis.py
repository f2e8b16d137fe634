"""BoxVIS, tiny, from boxes only on ToyVIS: the run of ``make quickstart``."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.toyvis import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_tiny_toyvis import *
    from .._base_.schedules.tiny import *

# 900 steps are too few for a teacher that forgets over 1000
custom_hooks = [dict(type='EMATeacherHook', momentum=0.01)]
