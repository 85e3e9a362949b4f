"""Images are drawn as often as their weights say."""
import json

import pytest
import torch
from conftest import detector_config, retinanet, train

from mmkd import WeightedSampler


def test_frequencies_are_the_weights():
    sampler = WeightedSampler(range(4), [1., 0., 2., 5.], seed=0)
    assert len(sampler) == 4
    drawn = []
    for epoch in range(2000):
        sampler.set_epoch(epoch)
        drawn += list(sampler)
    counts = torch.bincount(torch.tensor(drawn), minlength=4) / len(drawn)
    torch.testing.assert_close(counts, torch.tensor([0.125, 0., 0.25, 0.625]), atol=0.02, rtol=0)


def test_draw_depends_on_seed_and_epoch_alone():
    one, other = (WeightedSampler(range(50), [1.] * 50, seed=3) for _ in range(2))
    assert list(one) == list(other)
    other.set_epoch(1)
    assert list(one) != list(other)


def test_processes_share_one_draw(monkeypatch):
    whole = WeightedSampler(range(6), [1.] * 6, seed=3)
    monkeypatch.setattr('mmkd.sampler.get_dist_info', lambda: (1, 2))
    half = WeightedSampler(range(6), [1.] * 6, seed=3)
    assert list(half) == list(whole)[1::2]


def test_trains_from_a_file_of_weights(shapes, tmp_path):
    path = tmp_path / 'weights.json'
    path.write_text(json.dumps(dict(weights=[0., 0., 1., 0.])))
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'), **{
        'train_dataloader.sampler': dict(type='mmkd.WeightedSampler', weights=str(path))})
    config.train_dataloader.sampler.pop('shuffle', None)
    runner, _ = train(config)
    assert list(runner.train_dataloader.sampler) == [2, 2, 2, 2]


@pytest.mark.parametrize('weights', [[1.], [1., -1., 1.], [0., 0., 0.], [1., 1., float('nan')]])
def test_mistakes_are_named(weights):
    with pytest.raises(ValueError, match='must hold 3 numbers of 0 or more'):
        WeightedSampler(range(3), weights)
