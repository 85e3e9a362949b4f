"""The current Runner is found among the callers on the stack, and nowhere else."""
from mmengine.runner import Runner

from mmkd.core.runner import current_runner


class Caller(Runner):

    def __init__(self):  # only the type of a Runner is needed
        pass

    def ask(self):
        return current_runner()


def test_the_runner_that_calls():
    runner = Caller()
    assert runner.ask() is runner


def test_none_without_one_even_if_another_exists():
    Caller()
    assert current_runner() is None
