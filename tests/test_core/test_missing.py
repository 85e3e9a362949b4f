"""Messages about missing files name the folder they were looked for from, and the closest names."""
import pytest

from mmkd.core.missing import looked_for


@pytest.mark.parametrize(('path', 'closest'), [
    ('teacher.pt', '; closest in its folder: teacher.pth'),
    ('./folds/teacher_1.pth', '; closest in its folder: teacher_2.pth'),
    ('imagse/', '; closest in its folder: images'),
    ('folds', '; it is a folder'),
    ('teacher.pth', '; it is a file'),
    ('zzz', ''),
    ('', ''),
    ('no/folder/teacher.pth', ''),
])
def test_closest_names(path, closest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ('folds', 'images'):
        (tmp_path / folder).mkdir()
    for name in ('teacher.pth', 'folds/teacher_2.pth'):
        (tmp_path / name).touch()
    assert looked_for(path) == f'(looked from {tmp_path}{closest})'


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path / 'teacher.pth').touch()
    assert looked_for('~/teachr.pth').endswith('; closest in its folder: teacher.pth)')
