"""Hooks, optimisers and the runner."""

from .hooks import *  # noqa: F403
from .optimizers import *  # noqa: F403
from .runner import *  # noqa: F403
from .sharding import student_and_teacher as student_and_teacher
