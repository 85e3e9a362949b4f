"""Python imports this at the start of a process whose PYTHONPATH has this folder."""
import declared_operators  # noqa: F401
import quick  # noqa: F401
