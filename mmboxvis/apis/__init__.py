"""What a program that is not a training run calls."""

from .official import convert_official, load_official, to_official

__all__ = ['convert_official', 'load_official', 'to_official']
