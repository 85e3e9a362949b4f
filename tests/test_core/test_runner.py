"""The current Runner is found among the callers on the stack, and nowhere else."""
from mmengine.runner import Runner

from mmkd.core.runner import current_runner


class Caller(Runner):

    def __init__(self):  # only the type of a Runner is needed
        pass

    def ask(self):
        return current_runner()


def test_calling_runner_is_found():
    runner = Caller()
    assert runner.ask() is runner


def test_no_runner_without_a_calling_one():
    Caller()
    assert current_runner() is None
