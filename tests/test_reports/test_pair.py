"""The report of an examination with invented figures, and the examples in docstrings."""
import doctest
import importlib
import re

import pytest
import torch

from mmkd.reports.pair import as_page, as_text, costs_text
from mmkd.worth import Findings, MethodFinding, Standing, recommend


def figures(accuracy, entropy):
    return dict(images=10, positions=100, accuracy=accuracy, cross_entropy=entropy, error=0.01,
                ece=4., curve=[[0.2, 0.1, 50], [0.9, 0.7, 50]], by_class=[accuracy, None])


@pytest.fixture
def found():
    return Findings(
        'student<1>.py', 'teacher.py', kind='dense', is_trained=True, classes=['cat', 'dog'],
        images=dict(scored=20, train=10, held_out=10), metric='mAP',
        scores=dict(teacher=dict(mAP50=80., mAP=50.), student=dict(mAP50=70., mAP=40.)),
        by_class=dict(cat=dict(teacher=55.5, student=44.4)), point='cls',
        standings=dict(teacher=Standing(figures(99., 0.1), figures(90., 0.3)),
                       student=Standing(figures(85., 0.4), figures(84., 0.41))),
        agreement=dict(unit='objects', total=dict(both=6, teacher=2, student=1, neither=1),
                       by_class=dict(cat=dict(both=6, teacher=2, student=1, neither=1))),
        methods=[MethodFinding('dist', ['cls'], ['prediction'], '', False, 11.3, 0.06, 'neck',
                               dict(loss_cls_dist=4.6), 2., 3 * 2**20),
                 MethodFinding('cwd', is_left_out=True)],
        alone=dict(seconds=1., memory=2 * 2**20, batch=4, images=200, epochs=12),
        cache=dict(method='dist', teacher=0.1, write=0.15, read=0.02, bytes=1e6, gigabytes=0.75,
                   variants=4, epochs=6.5), problems=['the point: a reason'], seconds=250.)


def test_text_and_page_have_the_same_figures(found):
    advice = recommend(found)
    text, page = as_text(found, advice), as_page(found, advice, ['<div class="row"></div>'])
    for word in ('Distil with --method dist.', '55.5', '60%', '20%', '11.3', 'the time was up',
                 'the point: a reason', 'pays after 6.5 epochs', '0.75 GiB'):
        assert word in text, word
        assert word in page, word
    # 50 steps of 4 images take 100 s, so 12 epochs take 20 minutes.
    assert 'An epoch of 200 images with dist takes 100 s' in costs_text(found, 'dist')
    assert '12 epochs take 20 min' in costs_text(found, 'dist')
    assert 'student&lt;1&gt;.py' in page
    assert '67% for the teacher, 2% for the student' in page
    assert '<svg' in page
    assert not re.search(r'https?://|<script|<link', page)
    # The metric that decides is listed first.
    assert page.index('>mAP<') < page.index('>mAP50<')


def test_validation_images_among_the_training_images_are_named(found):
    advice = recommend(found)
    assert 'arning' not in as_text(found, advice) + as_page(found, advice)
    found.seen = ['data/val/cat<1>.png', 'data/val/dog.png']
    text, page = as_text(found, advice), as_page(found, advice)
    words = ' '.join(text.split())
    assert 'warning: 2 images of the validation set are among the training images' in words
    assert 'cat<1>.png, dog.png' in words
    assert 'cat&lt;1&gt;.png, dog.png' in page


def test_a_cache_that_does_not_pay(found):
    found.cache['epochs'] = None
    assert 'does not pay: per image 100 ms for the teacher, 20 ms to read' in costs_text(
        found, 'dist')


def test_an_examination_without_figures():
    found = Findings('s.py', 't.py', problems=['the scores: ValueError: why'])
    for report in (as_text, as_page):
        assert 'the scores: ValueError: why' in report(found, recommend(found))


@pytest.mark.parametrize('name', [
    'worth.tally', 'worth.images', 'worth.advice', 'worth.agreement', 'worth.pull', 'worth.costs',
    'worth.examine', 'reports.page', 'reports.charts', 'reports.pictures', 'reports.pair',
    'reports.class_tables'])
def test_examples_in_docstrings(name):
    module = importlib.import_module(f'mmkd.{name}')
    done = doctest.testmod(module, extraglobs=dict(torch=torch))
    assert done.attempted
    assert not done.failed
