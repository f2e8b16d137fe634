"""EfficientNet-Lite0 with ImageNet weights, in place of the backbone of a tiny network."""

backbone = dict(type='EfficientNetLite0')
in_channels = [24, 40, 112, 320]
# the scale that its weights were trained with, not ImageNet's mean and deviation
mean, std = [127.0] * 3, [128.0] * 3
