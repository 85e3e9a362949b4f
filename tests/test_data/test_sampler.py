"""The sampler draws images with frequencies proportional to their weights."""
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
    monkeypatch.setattr('mmkd.data.sampler.get_dist_info', lambda: (1, 2))
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


@pytest.mark.parametrize(('weights', 'says'), [
    ([1.], 'must contain 3 numbers of 0 or more, .* but contains 1; compute the weights'),
    ([1., -1., 1.], 'number 1 is -1.0; give 3 finite numbers'),
    ([0., 0., 0.], 'contains 3, all of them 0'),
    ([1., 1., float('nan')], 'number 2 is nan; give 3 finite'),
    ([1., float('inf'), 1.], 'number 1 is inf; give 3 finite'),
    (['a', 'b', 'c'], "number 0 is 'a'"),
    ([1., None, 1.], 'number 1 is None'),
    ([True, True, False], 'number 0 is True'),
    ([[1.], [1.], [1.]], r'number 0 is \[1.0\]'),
    (7, 'must be a list of numbers or the path of a JSON file, but got 7'),
    (None, 'but got None'),
    ({'weights': [1., 1., 1.]}, 'must be a list of numbers or the path'),
])
def test_mistakes_are_named(weights, says):
    with pytest.raises(ValueError, match=f'`weights` of mmkd.WeightedSampler .*{says}'):
        WeightedSampler(range(3), weights)


@pytest.mark.parametrize(('content', 'says'), [
    ('weights', 'cannot be read as JSON: .*write {"weights": '),
    ('[1, 1, 1]', r'must contain {"weights": \[...\]}, but contains list'),
    ('{"wieghts": [1, 1, 1]}', r"must contain {.*}, but contains \['wieghts'\]"),
    ('{"weights": "1 1 1"}', r"must contain {.*}, but contains \['weights'\]"),
    ('{"weights": [1, NaN, 1]}', 'number 1 is nan'),
    ('{"weights": [1, 1]}', 'but contains 2; compute the weights for this data set'),
])
def test_mistakes_in_a_file_name_it(tmp_path, content, says):
    path = tmp_path / 'weights.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=f'weights.json`, .*{says}'):
        WeightedSampler(range(3), str(path))


def test_file_that_is_not_there_is_named():
    with pytest.raises(FileNotFoundError, match='`nosuch.json`, .*no such file .looked from /'):
        WeightedSampler(range(3), 'nosuch.json')


def test_tensors_and_whole_numbers_are_weights():
    for weights in (torch.tensor([0., 0., 1.]), [0, 0, 1], (0, 0, 1)):
        assert list(WeightedSampler(range(3), weights)) == [2, 2, 2]
