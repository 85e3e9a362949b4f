"""Entries of a config are built, or the error message names the mistake."""
import pytest

from mmkd.core.build import build_entry
from mmkd.losses import KDLoss
from mmkd.losses.base import DistillLoss
from mmkd.registry import MODELS


def test_unknown_type_error_lists_types_and_the_closest_one(monkeypatch):
    monkeypatch.setitem(MODELS.module_dict, 'GuestLoss', type('GuestLoss', (KDLoss,), {}))
    with pytest.raises(ValueError, match=r'no type `mmkd.GustLoss` \(closest: `mmkd.GuestLoss`\); '
                                         r'mmkd has .*`mmkd.KDLoss`') as error:
        build_entry(dict(type='mmkd.GustLoss'), MODELS, 'a loss', DistillLoss)
    assert '`mmkd.GuestLoss`' not in str(error.value).partition('mmkd has')[2]
