"""The network of mask2former_vis_tiny.py on EfficientNet-Lite0 with ImageNet weights."""

from mmengine.config import read_base

with read_base():
    from .mask2former_vis_tiny import model
    from .effnet_lite0 import backbone, in_channels, mean, std

model['network']['backbone'] = backbone
model['network']['track_head']['in_channels'] = in_channels
model['data_preprocessor'].update(mean=mean, std=std)
