"""The name that :mod:`mmkd.networks` had in the first edition."""
from .core.aliases import successor

__getattr__ = successor(__name__, 'mmkd.networks')
