"""Version of mmboxvis."""

__version__ = '0.1.0'
