"""examples/merge_classes.py joins classes of a COCO file, and says which name is unknown."""
import importlib.util
import json
import os
import subprocess
import sys

import pytest

SCRIPT = os.path.join(os.path.dirname(__file__), '..', '..', 'examples', 'merge_classes.py')


@pytest.fixture
def merge():
    spec = importlib.util.spec_from_file_location('merge_classes', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.merge


def blood():
    return dict(
        images=[dict(id=7, file_name='a.jpg', width=10, height=10)],
        categories=[dict(id=1, name='RBC'), dict(id=5, name='WBC'), dict(id=9, name='Platelets')],
        annotations=[dict(id=number, image_id=7, category_id=category, bbox=[0, 0, number, 1])
                     for number, category in enumerate((9, 1, 5, 1))])


def names(data):
    of_id = {one['id']: one['name'] for one in data['categories']}
    return [of_id[one['category_id']] for one in data['annotations']]


def test_joined_classes_have_one_name_and_all_others_keep_theirs(merge):
    merged = merge(blood(), dict(cell=['RBC', 'WBC']))
    assert names(merged) == ['Platelets', 'cell', 'cell', 'cell']
    assert [one['name'] for one in merged['categories']] == ['cell', 'Platelets']
    assert merged['images'] == blood()['images']
    assert [one['bbox'] for one in merged['annotations']] == [
        one['bbox'] for one in blood()['annotations']]


def test_an_unknown_class_is_named(merge):
    with pytest.raises(ValueError, match="no class 'rbc'; the file has RBC, WBC, Platelets"):
        merge(blood(), dict(cell=['rbc']))


@pytest.mark.parametrize('joins', [
    dict(Platelets=['RBC', 'WBC']), dict(cell=['RBC', 'WBC'], red=['RBC'])])
def test_classes_that_would_be_mixed_up_are_refused(merge, joins):
    with pytest.raises(ValueError, match='each class goes into one new class'):
        merge(blood(), joins)


def test_the_command_writes_the_file_into_a_new_folder(tmp_path):
    source, target = tmp_path / 'all.json', tmp_path / 'new' / 'cells.json'
    source.write_text(json.dumps(blood()))
    subprocess.run([sys.executable, SCRIPT, str(source), str(target), 'cell=RBC,WBC'], check=True)
    assert names(json.loads(target.read_text())) == ['Platelets', 'cell', 'cell', 'cell']
