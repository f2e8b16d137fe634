"""BoxVIS, R50, on BVISD as the paper describes it, wherever the released program differs.

docs/en/paper_vs_code.md says what each switch does; boxvis_r50_8xb2-15k_bvisd_released.py is the
other side. What the paper leaves open is as in boxvis_r50_8xb2-15k_bvisd.py.
"""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.r50_15k import *

load_from = 'checkpoints/mask2former_r50_coco-instance.pth'

_criterion = model['criterion']
_dataset = train_dataloader['dataset']

# rows 1, 2, 4, 5, 6
_criterion['loss_proj'].update(detach_large=False)
model['confidence'].update(mode='falling')
_criterion['loss_pair'].update(temporal_in_box='any')
model['network']['track_head']['positional_encoding'].update(paired_frequencies=True)
model.update(released_boxes=False)
# row 7
_dataset.update(released_mapping=False)
# rows 15, 16: not in the paper, so a pseudo mask is judged by the threshold alone
_criterion['assigner'].update(max_confidence=1.0, small_area=0.0, use_mask_quality=False)
# row 16 once more: the teacher has a matching of its own
model['pseudo_masks'].update(assigner=dict(type='BoxSupervisedAssigner', use_mask_quality=False))
# row 17: as in Mask2Former-VIS
_criterion['loss_pseudo'].update(mask_weight=5.0, dice_weight=5.0, importance_sample_ratio=0.75)
_criterion['assigner'].update(mask_weight=5.0, dice_weight=5.0)
# row 18
model.update(teacher_train_mode=False)
# row 22
for _part in ('ytvis', 'ovis', 'coco'):
    _dataset[_part].update(box_source='box')
# row 23
param_scheduler[0].update(milestones=[10000, 12000])
_dataset['coco'].update(pipeline=paper_image_pipeline)
# row 24
model['test_cfg'].update(tracker=dict(type='QueryTracker'))
# row 25
for _part in ('ytvis', 'ovis'):
    _dataset[_part]['clip'].update(replacement=False)
# row 32
_criterion['loss_pair'].update(wrap_last=False)
# row 34
_criterion.update(local_averages=False)
# row 35
model['test_cfg'].update(prune_score=0.01)
