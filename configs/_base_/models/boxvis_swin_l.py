"""BoxVIS with a Swin-L of window 12, pretrained at 384 pixels, and 200 queries."""

from mmengine.config import read_base

with read_base():
    from .boxvis_r50 import *

num_queries = 200

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
model['network']['track_head'].update(in_channels=[192, 384, 768, 1536], num_queries=num_queries)
# the released tests of Swin-L on OVIS and BVISD use the overlap tracker, query matching elsewhere
model['test_cfg']['tracker'] = dict(type='OverlapTracker')
network = model['network']
