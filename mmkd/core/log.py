"""How is something said where MMEngine may be absent?"""
import logging
import warnings


def warn(text: str) -> None:
    """Log a warning by the logger of the run; without MMEngine, by Python's warnings."""
    try:
        from mmengine.logging import print_log
    except ImportError:
        warnings.warn(text, stacklevel=2)
        return
    print_log(text, 'current', logging.WARNING)
