"""Samplers that mix data sets and group clips by orientation."""

from .mixed_sampler import MixedSampler
from .orientation_batch_sampler import OrientationBatchSampler

__all__ = ['MixedSampler', 'OrientationBatchSampler']
