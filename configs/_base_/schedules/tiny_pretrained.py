"""For tiny networks with a pretrained backbone, which learns at a tenth of the rate."""

from mmengine.config import read_base

with read_base():
    from .tiny import *

optim_wrapper['paramwise_cfg']['custom_keys']['backbone'] = dict(lr_mult=0.1)
