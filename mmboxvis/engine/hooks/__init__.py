"""Hooks of mmboxvis."""

from .ema_teacher_hook import EMATeacherHook
from .video_overlay_hook import VideoOverlayHook

__all__ = ['EMATeacherHook', 'VideoOverlayHook']
