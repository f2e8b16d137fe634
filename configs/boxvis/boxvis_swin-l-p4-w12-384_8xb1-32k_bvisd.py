"""BoxVIS, Swin-L, on BVISD."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_swin_l import *
    from .._base_.schedules.swin_l_32k import *

load_from = 'checkpoints/mask2former_swin-l-384_coco-instance.pth'

train_dataloader.update(batch_size=1)
train_dataloader['sampler'].update(same_orientation=1)
