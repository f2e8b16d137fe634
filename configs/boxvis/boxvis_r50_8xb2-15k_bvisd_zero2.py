"""R50 on BVISD, gradients and the state of the optimiser dealt out over the GPUs (ZeRO, stage 2).

Needs DeepSpeed, which the project does not install. Stage 2 and not 3, because the teacher is
averaged weight by weight and stage 3 leaves no process a whole weight. docs/en/scaling.md says what
it saves. DeepSpeed makes the steps itself: none is left out for numbers that are not finite.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    zero_optimization=dict(stage=2, overlap_comm=True, contiguous_gradients=True),
    gradient_clipping=optim_wrapper['clip_grad']['max_norm'],
)
optim_wrapper.pop('clip_grad')
optim_wrapper.update(type='DeepSpeedOptimWrapper')
