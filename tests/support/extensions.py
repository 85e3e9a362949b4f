"""Test harness for user extensions: train, kill, resume, and load the student."""
from typing import Any, Callable, Dict, List, Tuple

import pytest
import torch
from conftest import build, saved_at, train
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


class Died(BaseException):
    """Ends a run in the middle, like a kill."""


@HOOKS.register_module(force=True)
class DieAt(Hook):
    """Ends the run after some iterations, before the other hooks of the last one run."""

    priority = 'HIGHEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == self.iteration:
            raise Died


def train_kill_resume(make: Callable[..., Config], student: dict, folder: Any,
                      scope: str = 'mmdet', dies_at: int = 3
                      ) -> Tuple[List[Dict[str, float]], Dict[str, Any]]:
    """Train a config to the end; train it again, kill and resume that run; load the student.

    Args:
        make (Callable): Returns the config for a work dir and changes. It saves every 2 iterations.
        student (dict): Model config of the plain student.
        folder (Path): Folder for the work dirs.
        scope (str): Scope of the student.
        dies_at (int): Number of iterations after which the run is killed.

    Returns:
        tuple[list[dict], dict]: The losses of every iteration of the run that was not killed, and
        its last checkpoint.
    """
    runner, whole = train(make(folder / 'whole'))
    with pytest.raises(Died):
        train(make(folder / 'parts', custom_hooks=[dict(type='DieAt', iteration=dies_at)]))
    _, rest = train(make(folder / 'parts', resume=True))
    assert rest == whole[dies_at - 1:], 'resumed, it trained otherwise'
    ends = [saved_at(one / (folder / 'whole' / 'last_checkpoint').read_text().rsplit('/', 1)[1])
            for one in (folder / 'whole', folder / 'parts')]
    for key in ('state_dict', 'mmkd'):
        same_to_the_bit(*(end.get(key, {}) for end in ends))
    plain = build(student, scope)
    plain.load_state_dict(ends[0]['state_dict'], strict=True)
    assert runner.model.distillation is not None
    return whole, ends[0]


def same_to_the_bit(one: Any, other: Any, name: str = '') -> None:
    """Assert that two nested dicts have bitwise equal tensors."""
    if isinstance(one, dict):
        assert list(one) == list(other), name
        for key in one:
            same_to_the_bit(one[key], other[key], f'{name}.{key}')
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), f'{name} differs'
    else:
        assert one == other, name
