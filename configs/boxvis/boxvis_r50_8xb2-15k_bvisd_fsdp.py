"""R50 on BVISD, the weights of student and teacher dealt out over the GPUs (FSDP).

For networks that leave no room beside them; R50 does not need it. docs/en/scaling.md says what it
saves. Checkpoints are mmengine's, whole weights written by the first process.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

runner_type = 'FlexibleRunner'
custom_imports = dict(imports=['mmboxvis.engine'], allow_failed_imports=False)
strategy = dict(
    type='FSDPStrategy',
    model_wrapper=dict(
        type='MMFullyShardedDataParallel',
        use_orig_params=True,  # trained and frozen weights share a unit
        auto_wrap_policy='student_and_teacher',
    ),
    state_dict_cfg='full',
)
optim_wrapper.update(sharded=True)
