"""The confidence a pseudo mask needs, over the course of training."""

from __future__ import annotations

import math
from typing import Literal, get_args

from mmboxvis.registry import TASK_UTILS

Mode = Literal['rising', 'falling', 'constant']


@TASK_UTILS.register_module()
class ConfidenceSchedule:
    """Threshold on the score of a pseudo mask as a function of the progress r of training.

    The paper and the released program run in opposite directions:

    - ``'rising'``: ``1 / (1 + exp(-2 r))``, from 0.5 to 0.881 (released program);
    - ``'falling'``: ``1 / (1 + exp(-2 (1 - r)))``, from 0.881 to 0.5 (paper section 3.1);
    - ``'constant'``: ``value`` throughout (third row of the paper's Table 3).

    Example:
        >>> schedule = ConfidenceSchedule('rising')
        >>> schedule(0.0), round(schedule(1.0), 3)
        (0.5, 0.881)

    Args:
        mode: one of the three.
        value: threshold of ``'constant'``, in [0, 1]; the other modes do not use it.

    Raises:
        ValueError: if ``mode`` is none of the three or ``value`` is outside [0, 1].
    """

    def __init__(self, mode: Mode = 'rising', value: float = 0.5) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f'mode must be one of {get_args(Mode)}, not {mode!r}')
        if not 0 <= value <= 1:
            raise ValueError(f'value must lie in [0, 1], not {value}')
        self.mode = mode
        self.value = value

    def __call__(self, progress: float) -> float:
        """Threshold in [0, 1].

        Args:
            progress: iterations done divided by all iterations, in [0, 1].

        Raises:
            ValueError: if ``progress`` is outside [0, 1].
        """
        if not 0 <= progress <= 1:
            raise ValueError(f'progress must lie in [0, 1], not {progress}')
        if self.mode == 'constant':
            return self.value
        exponent = progress if self.mode == 'rising' else 1 - progress
        return 1 / (1 + math.exp(-2 * exponent))

    def __repr__(self) -> str:
        value = f', value={self.value}' if self.mode == 'constant' else ''
        return f'{type(self).__name__}(mode={self.mode!r}{value})'
