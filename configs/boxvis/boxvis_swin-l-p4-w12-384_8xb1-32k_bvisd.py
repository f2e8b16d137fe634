"""BoxVIS, Swin-L, on BVISD."""

from mmengine.config import read_base

with read_base():
    from .._base_.datasets.bvisd import *
    from .._base_.default_runtime import *
    from .._base_.models.boxvis_r50 import *
    from .._base_.schedules.swin_l_32k import *

load_from = 'checkpoints/mask2former_swin-l-384_coco-instance.pth'

model['network']['backbone'] = dict(
    type='SwinTransformer',
    pretrain_img_size=384,
    embed_dims=192,
    depths=(2, 2, 18, 2),
    num_heads=(6, 12, 24, 48),
    window_size=12,
    mlp_ratio=4,
    drop_path_rate=0.3,
    patch_norm=True,
    out_indices=(0, 1, 2, 3),
)
model['network']['track_head'].update(in_channels=[192, 384, 768, 1536], num_queries=200)
# the released tests of Swin-L on OVIS and BVISD use the overlap tracker
model['test_cfg']['tracker'] = dict(type='OverlapTracker')

train_dataloader.update(batch_size=1)
train_dataloader['sampler'].update(same_orientation=1)
