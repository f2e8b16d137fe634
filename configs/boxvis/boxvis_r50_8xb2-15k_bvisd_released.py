"""BoxVIS, R50, on BVISD with every switch as in the released program, its faults included.

docs/en/paper_vs_code.md says what each switch does; boxvis_r50_8xb2-15k_bvisd_paper.py is the other
side. Its boxes come from masks and COCO's trucks are turtles, so it has files of its own, which
``build_bvisd.py --masks all --released-mapping --out data/bvisd_released`` writes. The released
program trains in mixed precision, which no config sets: give ``--amp`` to ``tools/train.py``.
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
_criterion['loss_proj'].update(detach_large=True)
model['confidence'].update(mode='rising')
_criterion['loss_pair'].update(temporal_in_box='both')
model['network']['track_head']['positional_encoding'].update(paired_frequencies=False)
model.update(released_boxes=True)
# row 7
_dataset.update(released_mapping=True)
# rows 15, 16
_criterion['assigner'].update(max_confidence=0.8, small_area=0.05, use_mask_quality=True)
# row 16 once more: the teacher has a matching of its own
model['pseudo_masks'].update(assigner=dict(type='BoxSupervisedAssigner', use_mask_quality=True))
# row 17
_criterion['loss_pseudo'].update(mask_weight=2.5, dice_weight=2.5, importance_sample_ratio=0.5)
# row 18
model.update(teacher_train_mode=True)
# row 22
for _part in ('ytvis', 'ovis', 'coco'):
    _file = _dataset[_part]['ann_file'].replace('bvisd/', 'bvisd_released/')
    _dataset[_part].update(box_source='mask', ann_file=_file)
# row 23: the augmentation is that of _base_/datasets/pipelines.py
param_scheduler[0].update(milestones=[12000])
# row 24
model['test_cfg'].update(tracker=dict(type='QueryTracker'))
# row 25
for _part in ('ytvis', 'ovis'):
    _dataset[_part]['clip'].update(replacement=True)
# row 32
_criterion['loss_pair'].update(wrap_last=True)
# row 34
_criterion.update(local_averages=True)
# row 35
model['test_cfg'].update(prune_score=0.0)
# rows 12, 13, 24: R50 is tested with query matching, Swin-L on OVIS and BVISD with this
released_overlap_tracker = dict(type='OverlapTracker', lose_last_frame=True, class_filter_all=True)
