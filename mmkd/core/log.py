"""How is a warning logged if MMEngine may not be installed?"""
import logging
import warnings


def warn(text: str) -> None:
    """Log a warning with MMEngine's current logger, or with Python's warnings without MMEngine."""
    try:
        from mmengine.logging import print_log
    except ImportError:
        warnings.warn(text, stacklevel=2)
        return
    print_log(text, 'current', logging.WARNING)
