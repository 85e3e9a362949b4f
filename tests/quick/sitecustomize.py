"""Python imports this at the start of a process whose PYTHONPATH has this folder."""
import quick  # noqa: F401
