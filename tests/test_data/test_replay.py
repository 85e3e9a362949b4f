"""Replay repeats a few augmentations of every image and does not change the random state."""
import random

import numpy as np
import pytest
import torch

from mmkd import Replay
from mmkd.registry import TRANSFORMS


@TRANSFORMS.register_module()
class DrawNumbers:
    """Draws a number from each generator that a transform may use."""

    def __call__(self, results):
        numbers = random.random(), float(np.random.rand()), float(torch.rand(()))
        return dict(results, drawn=numbers)


def drawn(replay, index):
    return replay(dict(sample_idx=index))['drawn']


def test_each_image_has_a_fixed_number_of_variants():
    replay = Replay([dict(type='mmkd.DrawNumbers')], variants=3, seed=5)
    forms = [{drawn(replay, index) for _ in range(60)} for index in range(4)]
    assert [len(one) for one in forms] == [3] * 4
    assert len(set.union(*forms)) == 12
    again = Replay([dict(type='mmkd.DrawNumbers')], variants=3, seed=5)
    for index, one in enumerate(forms):
        found = set()
        for again.only in range(3):
            found.add(drawn(again, index))
        assert found == one
    other = Replay([dict(type='mmkd.DrawNumbers')], variants=3, seed=6)
    assert {drawn(other, 0) for _ in range(30)}.isdisjoint(forms[0])


def test_random_state_of_the_run_is_unchanged():
    replay = Replay([dict(type='mmkd.DrawNumbers')], variants=1)
    expected = []
    for use in (False, True):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        if use:
            drawn(replay, 3)
        else:
            np.random.randint(1)
        expected.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert expected[0] == expected[1]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='`variants` must be a whole number of 1 or more'):
        Replay([dict(type='mmkd.DrawNumbers')], variants=0)
    with pytest.raises(TypeError, match='`transforms` must be a list'):
        Replay(None)
    with pytest.raises(KeyError, match='put the whole pipeline into its `transforms`'):
        Replay([dict(type='mmkd.DrawNumbers')])({})
