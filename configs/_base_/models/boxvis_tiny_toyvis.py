"""The tiny network's losses for drawn frames of 96 pixels, see docs/en/learning.md."""

from mmengine.config import read_base

with read_base():
    from .boxvis_tiny import *

# a network that starts from nothing covers two objects with one mask at first: cut to the box
# such masks teach best, but a threshold that rises to 0.88 leaves out just these
model['confidence'] = dict(type='ConfidenceSchedule', mode='constant', value=0.3)
# a box that is scaled ends between pixels, and half a pixel on each side is much of an object
model['box_centers'] = True
# small frames are sharp: neighbours differ more in colour than in a frame of 640 pixels, and the
# paper's 0.3 keeps few pairs (tools/analysis_tools/analyze_pairs.py); borders are as far apart
model['criterion']['loss_pair'].update(loss_weight=2.0, color_thr=0.1, dilation=2)
