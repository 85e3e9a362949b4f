"""docs/your_own.md explains every value that a loss may request, every attribute, every example."""
import os
import re

from mmkd.compare.provided import OF_TRUTH
from mmkd.compare.vocabulary import PROVIDERS
from mmkd.losses import DistillLoss, LogitLoss

ROOT = os.path.join(os.path.dirname(__file__), '..', '..')


def page():
    with open(os.path.join(ROOT, 'docs', 'your_own.md')) as file:
        return file.read()


def first_cells(heading):
    """Return the code words in the first column of the table after a heading."""
    table = page().split(heading, 1)[1].split('\n\n')
    rows = next(part for part in table if part.startswith('|')).splitlines()[2:]
    return [name for row in rows for name in re.findall(r'`(\w+)`', row.split('|')[1])]


def test_every_value_that_a_loss_may_ask_for_is_explained():
    ours = [name for name, function in PROVIDERS.items() if function.__module__.startswith('mmkd.')]
    assert sorted(first_cells('**Ask by name.**')) == sorted(ours)
    assert set(OF_TRUTH) <= set(ours)


def test_every_attribute_of_a_loss_is_explained():
    own = {name for name, value in {**vars(DistillLoss), **vars(LogitLoss)}.items()
           if not name.startswith('_') and not callable(value) and not isinstance(
               value, (property, classmethod))}
    assert set(first_cells('**Class attributes.**')) == own - {'checks_weights', 'training'}


def test_every_example_is_linked():
    files = {name for name in os.listdir(os.path.join(ROOT, 'examples')) if name.endswith('.py')}
    linked = set(re.findall(r'(?<!test_)examples/(\w+\.py)', page()))
    for name in ('teachers.md', 'points.md'):
        with open(os.path.join(ROOT, 'docs', name)) as file:
            linked |= set(re.findall(r'(?<!test_)examples/(\w+\.py)', file.read()))
    assert linked == files
