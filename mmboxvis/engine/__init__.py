"""Hooks and schedules."""

from .hooks import *  # noqa: F403
