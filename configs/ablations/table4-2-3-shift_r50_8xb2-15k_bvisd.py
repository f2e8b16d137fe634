"""Table 4, row 4: with patch correlation and centre shift. No pseudo masks."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

# Mask2Former, COCO instances, converted by tools/model_converters/from_official.py
load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

model['criterion']['loss_pair'] = dict(type='STPALoss', num_neighbors=5)
model['pseudo_masks'] = None
model['criterion']['loss_pseudo'] = None
custom_hooks = []
