"""Recording leaves no trace and touches one instance only."""
import pytest
import torch
from torch import nn

from mmkd.points.recorder import recording


def test_records_calls_of_the_module_and_of_its_forward():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    with recording(model, ['0']) as seen:
        a = model[0](torch.ones(1, 2))
        b = model[0].forward(torch.ones(1, 2))
    assert [call.output.data_ptr() for call in seen['0']] == [a.data_ptr(), b.data_ptr()]
    assert all(call.args[0].tolist() == [[1, 1]] for call in seen['0'])


def test_leaves_no_trace_even_after_an_error():
    model = nn.Sequential(nn.Linear(2, 3))
    with pytest.raises(RuntimeError, match='stop'), recording(model, ['0']) as seen:
        raise RuntimeError('stop')
    assert 'forward' not in model[0].__dict__
    model(torch.ones(1, 2))
    assert seen['0'] == []


def test_another_instance_of_the_class_is_not_recorded():
    one, other = nn.Sequential(nn.Linear(2, 3)), nn.Sequential(nn.Linear(2, 3))
    with recording(one, ['0']) as seen:
        other(torch.ones(1, 2))
    assert seen['0'] == []


def test_wrapper_of_somebody_else_is_kept():
    model = nn.Sequential(nn.Linear(2, 3))

    def theirs(x):
        return torch.full((1, 3), 7.)

    model[0].forward = theirs
    with recording(model, ['0']) as seen:
        model(torch.ones(1, 2))
    assert seen['0'][0].output.tolist() == [[7, 7, 7]]
    assert model[0].forward is theirs
