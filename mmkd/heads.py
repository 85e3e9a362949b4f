"""The name that :mod:`mmkd.points` had in the first edition."""
from .core.aliases import successor

__getattr__ = successor(__name__, 'mmkd.points')
