"""Table 5, row 5: YouTube-VIS 2021, OVIS and COCO, 2:1:1; the main model."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

# Mask2Former, COCO instances, converted by tools/model_converters/from_official.py
load_from = 'checkpoints/mask2former_r50_coco-instance.pth'
