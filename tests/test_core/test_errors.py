"""Errors of other code are reported with a remedy."""
import pytest

from mmkd.core.errors import explained
from mmkd.files.zoo import read_config_file

REFUSAL = 'MMCV==2.1.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.1.0.'


def test_a_refused_version_has_its_own_remedy():
    with pytest.raises(ValueError, match='install versions within its bounds') as caught, \
            explained('the model cannot be built', 'check `model`'):
        raise AssertionError(REFUSAL)
    assert REFUSAL.rstrip('.') in str(caught.value)
    assert 'check `model`' not in str(caught.value)


def test_other_assertions_keep_the_remedy():
    with pytest.raises(ValueError, match='check `model`'), explained('it fails', 'check `model`'):
        raise AssertionError('64 channels are incompatible with the backbone')


def test_a_refused_version_in_a_config(tmp_path):
    path = tmp_path / 'student.py'
    path.write_text(f'raise AssertionError({REFUSAL!r})\n')
    with pytest.raises(ValueError, match='install versions within its bounds'):
        read_config_file(str(path))
