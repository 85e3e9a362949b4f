"""Merging the shards of a cache loses and mixes up nothing."""
import errno
import json
import os
import re
import shutil

import pytest
import torch

from mmkd.files.segments import ANSWERS, INDEX, files_in
from mmkd.files.shards import SEAL, Shard, content_of, merge, seal
from mmkd.files.store import AnswerStore

TEACHER = dict(weights='abc', config='def')
PLAN = dict(model=dict(distill=[dict(on='cls')]), images=6)
KEYS = [bytes([number]) * 4 for number in range(6)]


def record(number):
    return [torch.full((5, ), float(number))], dict(note=number)


def filled(folder, numbers, teacher=TEACHER):
    store = AnswerStore(folder, teacher, 'float32')
    for number in numbers:
        store.put({KEYS[number]: record(number)})
    store.close()
    return store


@pytest.fixture
def cache(tmp_path):
    """A cache of three shards, with two records each."""
    path = str(tmp_path / 'cache')
    for number in (1, 2, 3):
        folder = Shard(number, 3).folder(path)
        filled(folder, (2 * number - 2, 2 * number - 1))
        seal(folder, Shard(number, 3), PLAN)
    return path


def merged(cache, teacher=TEACHER, plan=PLAN):
    store = AnswerStore(cache, teacher, 'float32')
    return store, merge(store, cache, plan)


def content(folder):
    return content_of(folder, files_in(folder, (INDEX, )))


def check_whole(cache, tmp_path):
    store = AnswerStore(cache, TEACHER, 'float32')
    for number, (tensors, beside) in enumerate(store.find(KEYS)):
        assert tensors[0].tolist() == [number] * 5
        assert beside == dict(note=number)
    filled(str(tmp_path / 'whole'), range(6))
    assert content(cache) == content(str(tmp_path / 'whole'))


def test_merged_shards_are_the_whole_cache(cache, tmp_path):
    store, done = merged(cache)
    assert (done.shards, done.records, len(store)) == (3, 6, 6)
    assert merged(cache)[1] == done  # once more
    shutil.rmtree(f'{cache}.shards')
    check_whole(cache, tmp_path)


def test_files_are_copied_where_they_cannot_be_linked(cache, tmp_path, monkeypatch):
    def link(*args):
        raise OSError(errno.EXDEV, 'Invalid cross-device link')

    store = AnswerStore(cache, TEACHER, 'float32')
    monkeypatch.setattr(os, 'link', link)
    merge(store, cache, PLAN)
    shutil.rmtree(f'{cache}.shards')
    check_whole(cache, tmp_path)
    assert not [name for name in os.listdir(cache) if '.part' in name]


def test_a_wrong_copy_is_noticed(cache, monkeypatch):
    def copy(path, target):
        with open(path, 'rb') as file, open(target, 'wb') as other:
            other.write(file.read()[:-1] + b'?')

    def link(*args):
        raise OSError(errno.EXDEV, 'Invalid cross-device link')

    store = AnswerStore(cache, TEACHER, 'float32')
    monkeypatch.setattr(os, 'link', link)
    monkeypatch.setattr(shutil, 'copyfile', copy)
    with pytest.raises(ValueError, match='is damaged: '):
        merge(store, cache, PLAN)


def test_the_digest_depends_on_keys_and_values_not_on_their_order(tmp_path):
    one, other, third, fourth = (str(tmp_path / name) for name in 'abcd')
    filled(one, (0, 1, 2))
    filled(other, (2, 0))
    filled(other, (1, ))
    filled(third, (0, 1))
    AnswerStore(fourth, TEACHER, 'float32').put(
        {KEYS[0]: record(0), KEYS[1]: record(2), KEYS[2]: record(1)})
    assert content(one) == content(other)
    assert len({content(folder) for folder in (one, third, fourth)}) == 3


# --- what is refused ------------------------------------------------------------------------------


def shard_of(cache, number=2):
    return Shard(number, 3).folder(cache)


def file_of(cache, end):
    path, = files_in(shard_of(cache), (end, ))
    return path


def cut(path):
    with open(path, 'r+b') as file:
        file.truncate(os.path.getsize(path) - 1)


def spoil(path):
    with open(path, 'r+b') as file:
        file.seek(os.path.getsize(path) // 2)
        file.write(b'??')


def rewrite(cache, **changes):
    """Change the seal without its checksum."""
    path = os.path.join(shard_of(cache), SEAL)
    with open(path) as file:
        found = json.load(file)
    with open(path, 'w') as file:
        json.dump(dict(found, **changes), file)


def of_another_teacher(cache):
    shutil.rmtree(shard_of(cache))
    filled(shard_of(cache), (2, 3), dict(TEACHER, weights='xyz'))
    seal(shard_of(cache), Shard(2, 3), PLAN)


def of_another_split(cache):
    filled(Shard(1, 4).folder(cache), (0, ))
    seal(Shard(1, 4).folder(cache), Shard(1, 4), PLAN)


REFUSED = {
    'missing': (lambda cache: shutil.rmtree(shard_of(cache)),
                r'1 of 3 shards are missing in .*: 2/3; .* --shard 2/3, or copy the folder'),
    'not finished': (lambda cache: os.remove(os.path.join(shard_of(cache), SEAL)),
                     '2-of-3` is a shard that was not filled to its end'),
    'twice': (lambda cache: shutil.copytree(shard_of(cache), f'{shard_of(cache)}-copy'),
              'shard 2/3 is there twice, in .*2-of-3` and in .*2-of-3-copy`; remove one'),
    'another split': (of_another_split, 'contains shards of 3 and of 4 jobs; remove those'),
    'another teacher': (of_another_teacher, 'outputs of another teacher: weights xyz, now abc'),
    'another plan': (lambda cache: seal(shard_of(cache), Shard(2, 3), dict(PLAN, images=7)),
                     'shard 2/3 in .* with other settings: `images` is 6 now and was 7 there'),
    'no description': (lambda cache: os.remove(os.path.join(shard_of(cache), 'description.json')),
                       'shard 2/3 in .* is not as it was written: it has no file `description'),
    'no index': (lambda cache: os.remove(file_of(cache, INDEX)),
                 'shard 2/3 in .*: it contains 0 outputs with the digest .*, but 2 with'),
    'no records': (lambda cache: os.remove(file_of(cache, ANSWERS)), 'it contains 0 outputs'),
    'more records': (lambda cache: filled(shard_of(cache), (0, )), 'it contains 3 outputs'),
    'records cut': (lambda cache: cut(file_of(cache, ANSWERS)), 'entries are not as they were'),
    'index cut': (lambda cache: cut(file_of(cache, INDEX)), 'it contains 1 outputs'),
    'records spoilt': (lambda cache: spoil(file_of(cache, ANSWERS)), 'does not match'),
    'index spoilt': (lambda cache: spoil(file_of(cache, INDEX)), 'entries are not as they were'),
    'seal changed': (lambda cache: rewrite(cache, records=1), 'shard.json` is damaged'),
    'seal cut': (lambda cache: cut(os.path.join(shard_of(cache), SEAL)), 'shard.json` is damaged'),
    'none': (lambda cache: shutil.rmtree(f'{cache}.shards'), 'there are no shards in .*--shard 1/'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused_before_anything_is_added(cache, case):
    change, message = REFUSED[case]
    change(cache)
    with pytest.raises(ValueError, match=message) as error:
        merged(cache)
    assert not files_in(cache, (ANSWERS, INDEX))
    assert len(re.findall('; ', str(error.value))) >= 1  # the next step


def test_a_cache_of_another_teacher_takes_no_shards(cache):
    filled(cache, (0, ), dict(TEACHER, weights='xyz'))
    with pytest.raises(ValueError, match='outputs of another teacher: weights xyz, now abc'):
        merged(cache)


def test_a_damaged_shard_cannot_be_sealed(cache):
    spoil(file_of(cache, ANSWERS))
    with pytest.raises(ValueError, match='does not match'):
        seal(shard_of(cache), Shard(2, 3), PLAN)
