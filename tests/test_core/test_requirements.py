"""The check at import names what must be installed, and never installs it."""
import pytest

from mmkd.core import requirements
from mmkd.core.requirements import check_installed, missing, outside_range

GOOD = {'torch': '2.13.0+cpu', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0',
        'mmsegmentation': '1.2.2'}


def find_problems(installed):
    return missing(installed) + outside_range(installed)


def test_tested_stack_has_no_findings():
    assert find_problems(GOOD) == []
    assert find_problems({k: v for k, v in GOOD.items() if k != 'mmdet'}) == []


@pytest.mark.parametrize(('change', 'message'), [
    (dict(mmcv='2.2.0'), 'mmcv 2.2.0 is installed, but mmkd works with >=2.0,<2.2; `pip install'),
    (dict(torch='1.13.1'), 'torch 1.13.1 is installed'),
    (dict(mmdet='2.28.2'), 'mmdet 2.28.2 is installed'),
    (dict(torch='2.99.0'), 'torch 2.99.0 is installed, but mmkd works with >=2.1,<2.15'),
    (dict(numpy='1.21.6'), 'numpy 1.21.6 is installed, but mmkd works with >=1.26,<3'),
    ({'mmcv': None, 'onedl-mmcv': '3.0.0'}, 'onedl-mmcv 3.0.0 is installed, but mmkd works with '
     '>=2.0,<3; `pip install "onedl-mmcv>=2.0,<3"`'),
    (dict(mmengine=None), 'mmengine is not installed; `pip install "mmengine>=0.10,<1"`'),
    ({'mmcv': None, 'mmcv-lite': '2.1.0'}, 'mmcv-lite has no compiled operators'),
])
def test_findings_name_version_and_remedy(change, message):
    installed = {k: v for k, v in {**GOOD, **change}.items() if v}
    findings = find_problems(installed)
    assert len(findings) == 1
    assert message in findings[0]


def test_forks_satisfy_the_requirements():
    assert find_problems({'torch': '2.13.0', 'onedl-mmengine': '0.11.0', 'onedl-mmcv': '2.3.0',
                          'onedl-mmdetection': '3.4.0', 'onedl-mmsegmentation': '1.3.0'}) == []


@pytest.mark.parametrize(('version', 'is_tested'), [
    ((3, 9), False), ((3, 10), True), ((3, 12), True), ((3, 13), False)])
def test_python_has_a_range_too(monkeypatch, version, is_tested):
    monkeypatch.setattr(requirements.sys, 'version_info', (*version, 1, 'final', 0))
    found = find_problems(GOOD)
    assert found == ([] if is_tested else [
        f'this is Python 3.{version[1]}, but mmkd works with >=3.10,<3.13; make an environment '
        'with one of these'])


def test_import_fails_with_every_finding(monkeypatch):
    monkeypatch.setattr(requirements, 'installed_versions', lambda: {'torch': '1.0'})
    with pytest.raises(ImportError, match=r'(?s)mmengine is not .*mmcv is not .*torch 1.0'):
        check_installed()


def test_untested_stack_gives_a_warning_of_one_line(monkeypatch, caplog):
    found = dict(GOOD, torch='2.0.1', mmcv='2.2.0')
    monkeypatch.setattr(requirements, 'installed_versions', lambda: found)
    check_installed()
    (record, ) = caplog.records
    assert record.levelname == 'WARNING'
    assert record.getMessage() == (
        'mmkd is not tested with this stack: torch 2.0.1 is installed, but mmkd works with '
        '>=2.1,<2.15; `pip install "torch>=2.1,<2.15"`; mmcv 2.2.0 is installed, but mmkd works '
        'with >=2.0,<2.2; `pip install "mmcv>=2.0,<2.2"`')
    caplog.clear()
    monkeypatch.setattr(requirements, 'installed_versions', lambda: GOOD)
    check_installed()
    assert not caplog.records
