"""The Runner is found among the callers, and only there."""
from mmengine.runner import Runner

from mmkd.core.runner import current_runner


class Caller(Runner):

    def __init__(self):  # nothing of a Runner but its type
        pass

    def ask(self):
        return current_runner()


def test_the_runner_that_calls():
    runner = Caller()
    assert runner.ask() is runner


def test_none_without_one_even_if_another_exists():
    Caller()
    assert current_runner() is None
