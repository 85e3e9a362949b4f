"""Accuracy, cross entropy and calibration, compared with values computed by hand."""
import math

import pytest
import torch

from mmkd.worth.tally import Tally, advantage, error_of_ratio


def logits_of(*rows):
    return torch.tensor(rows).log()


def test_softmax_counts_background_but_not_ignored_positions():
    tally = Tally(use_sigmoid=False, classes=2)
    tally.add(logits_of([.8, .1, .1], [.3, .6, .1], [.2, .2, .6], [1., 1e-9, 1e-9]),
              torch.tensor([0, 0, 2, -1]))
    tally.add(logits_of([.5, .25, .25]), torch.tensor([5]))  # labels of 2 or more are background
    found = tally.result()
    assert (found['positions'], found['images']) == (4, 2)
    assert found['accuracy'] == pytest.approx(50.)
    entropy = -sum(map(math.log, (.8, .3, .6, .25)))
    assert found['cross_entropy'] == pytest.approx(entropy / 4, abs=1e-6)
    assert found['by_class'] == [50., None]
    # Bins of width 1/15: .8 is in bin 13, .5 in bin 8, and both .6 in bin 10.
    expected = (abs(.8 - 1) + abs(.5 - 0) + abs(1.2 - 1)) / 4
    assert found['ece'] == pytest.approx(100 * expected, abs=1e-4)
    assert [one[2] for one in found['curve']] == [1, 2, 1]


def test_sigmoid_makes_as_many_predictions_as_there_are_labels():
    """Two predictions per image: the first is right, the second is on the background."""
    scores = torch.tensor([[.9, .1], [.2, .1], [.3, .01], [.01, .02]])
    labels = torch.tensor([0, 1, 2, 2])
    tally = Tally(use_sigmoid=True, classes=2)
    tally.add(scores.logit(), labels)
    found = tally.result()
    assert found['accuracy'] == pytest.approx(50.)
    assert found['by_class'] == [100., 0.]
    right = (.9, .9, .8, .1, .7, .99, .99, .98)
    assert found['cross_entropy'] == pytest.approx(-sum(map(math.log, right)) / 2, rel=1e-4)
    assert sum(one[2] for one in found['curve']) == 3  # .9, .2 and .3, not .02
    assert found['ece'] == pytest.approx(100 * (.1 + .2 + .3) / 3, abs=1e-3)


def test_an_image_without_labels_adds_nothing():
    for use_sigmoid in (True, False):
        tally = Tally(use_sigmoid, 2)
        tally.add(torch.zeros(3, 2), torch.full((3, ), -1))
        tally.add(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
        assert tally.result() == {}


def test_error_equals_a_bootstrap_over_images():
    """Compared with a bootstrap over images."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 9, (200, ), generator=generator).double()
    values = counts * (1 + torch.rand(200, generator=generator))
    picks = torch.randint(200, (4000, 200), generator=generator)
    spread = (values[picks].sum(1) / counts[picks].sum(1)).std().item()
    assert error_of_ratio(values, counts) == pytest.approx(spread, rel=0.06)
    assert error_of_ratio(values[:1], counts[:1]) is None


def tallies(right):
    """Tallies of a teacher and a student: per image, the positions at which each is right."""
    sides = Tally(use_sigmoid=False, classes=2), Tally(use_sigmoid=False, classes=2)
    for image in right:
        for tally, own in zip(sides, image):
            logits = torch.tensor([[2., 0.] if one else [0., 2.] for one in own])
            tally.add(logits, torch.zeros(len(own), dtype=torch.long))
    return sides


def test_the_advantage_is_paired_by_image():
    """An image that is hard for both adds nothing to the error."""
    hard, easy = [False] * 4, [True] * 4
    one = [True, False, False, False]
    found = advantage(*tallies([(easy, easy), (hard, hard), (one, hard), (one, hard)]))
    # Differences of 0, 0, 1 and 1 of 4 positions: the mean is 2 of 16. Their rests from it are
    # +-0.5, so the standard error of the sum is the root of 4 * (4 * 0.25) / 3.
    assert found['accuracy'] == pytest.approx([100 * 2 / 16, 100 * (4 / 3)**.5 / 16])
    # Right and wrong differ by 2 nats.
    assert found['cross_entropy'] == pytest.approx([2 * 2 / 16, 2 * (4 / 3)**.5 / 16])
    alone = [tally.result()['error'] for tally in tallies([(easy, easy), (hard, hard)])]
    assert min(alone) > 0.5


def test_the_advantage_needs_the_same_images():
    one, other = tallies([([True], [True]), ([True], [False])])
    other.add(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match='not measured on the same images'):
        advantage(one, other)
    assert advantage(*tallies([([True], [False])])) == {}
