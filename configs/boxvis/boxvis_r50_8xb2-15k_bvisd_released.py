"""BoxVIS, R50, on BVISD with every switch as in the released program, its faults included.

docs/en/paper_vs_code.md says what each switch does. Those of the overlap tracker have no effect
here, because R50 is tested with query matching.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

# rows 1, 2, 5 and 6
model['criterion']['loss_proj'].update(detach_large=True)
model['confidence'].update(mode='rising')
model['network']['track_head']['positional_encoding'].update(paired_frequencies=False)
model.update(released_boxes=True)
# rows 4, 15, 16, 25 and 32, the defaults spelt out
model['criterion']['loss_pair'].update(temporal_in_box='both', wrap_last=True)
model['criterion']['assigner'].update(max_confidence=0.8, small_area=0.05, use_mask_quality=True)
train_dataloader['dataset']['ytvis']['clip'].update(replacement=True)
train_dataloader['dataset']['ovis']['clip'].update(replacement=True)
# rows 7 and 22
train_dataloader['dataset'].update(released_mapping=True)
for _part in ('ytvis', 'ovis', 'coco'):
    train_dataloader['dataset'][_part].update(box_source='mask')
# rows 12 and 13, for whoever changes the tracker to the released Swin-L tests'
released_overlap_tracker = dict(type='OverlapTracker', lose_last_frame=True, class_filter_all=True)
