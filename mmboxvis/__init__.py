"""Video instance segmentation learnt from boxes only, on mmdet, mmengine and mmcv.

Importing the package checks that the stack is there and imports none of it; the parts are
imported from their rooms: ``mmboxvis.models``, ``mmboxvis.datasets``, ``mmboxvis.engine``,
``mmboxvis.evaluation``, ``mmboxvis.visualization``, ``mmboxvis.apis``.
"""

from ._stack import check_stack
from .version import __version__

check_stack()

__all__ = ['__version__']
