"""Table 3, row 3: with pseudo masks above a fixed score of 0.5."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.ovis import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

# Mask2Former, COCO instances, converted by tools/model_converters/from_official.py
load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

model['criterion']['loss_pair'] = dict(type='PairwiseAffinityLoss', loss_weight=1.0)
model['confidence'] = dict(type='ConfidenceSchedule', mode='constant', value=0.5)
