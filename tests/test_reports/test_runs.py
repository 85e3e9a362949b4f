"""The data that the report reads from work dirs, and the page that it writes."""
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from mmkd.reports.charts import Line, chart, thinned, ticks
from mmkd.reports.class_tables import class_table
from mmkd.reports.page import page, table
from mmkd.reports.run import as_page, roles_of, summary_of
from mmkd.reports.runs import read_run

STUDENT = "model = dict(type='RetinaNet', _scope_='mmdet')\n"
DISTILLED = ("model = dict(type='mmkd.Distiller', student=dict(type='RetinaNet'), teacher=dict(),\n"
             "             distill=[dict(type='mmkd.KDLoss', on='cls')])\n")


def write_log(folder, lines, stamp='20260101_000000', config=STUDENT):
    inner = folder / stamp / 'vis_data'
    inner.mkdir(parents=True, exist_ok=True)
    (inner / 'scalars.json').write_text('\n'.join(
        one if isinstance(one, str) else json.dumps(one) for one in lines) + '\n')
    (inner / 'config.py').write_text(config)


def trained(step, **losses):
    return dict(lr=0.1, data_time=0.1, time=0.5, loss=sum(losses.values()), step=step, epoch=1,
                iter=step, **losses)


@pytest.fixture
def student(tmp_path):
    write_log(tmp_path / 'student', [
        trained(1, loss_cls=2.), trained(2, loss_cls=1.),
        {'coco/bbox_mAP': 0.4, 'coco/RBC_precision': 0.3, 'time': 1., 'step': 1}])
    return tmp_path / 'student'


@pytest.fixture
def distilled(tmp_path):
    write_log(tmp_path / 'kd', [
        trained(1, loss_cls=2., loss_cls_kd=6.), trained(2, loss_cls=1., loss_cls_kd=1.),
        {'coco/bbox_mAP': 0.45, 'coco/RBC_precision': 0.35, 'step': 1}], config=DISTILLED)
    return tmp_path / 'kd'


def test_losses_scores_and_classes(student, distilled):
    alone, run = read_run(str(student), 'alone'), read_run(str(distilled), 'kd')
    assert run.is_distilled
    assert not alone.is_distilled
    assert run.losses == ['loss_cls', 'loss_cls_kd']
    assert run.terms == ['loss_cls_kd']
    assert alone.terms == []
    assert run.series('loss_cls_kd') == [(1, 6.), (2, 1.)]
    assert run.metric == 'coco/bbox_mAP'
    assert run.last('coco/bbox_mAP') == 0.45
    assert run.seconds == 0.5
    assert alone.by_class == {'RBC': {'AP': 30.}}
    assert roles_of([alone, run]) == dict(alone='student alone', kd='distilled')


def test_log_of_a_resumed_run_is_joined(student):
    """The run was killed after the second step and resumed from the first."""
    write_log(student, [trained(2, loss_cls=9.), trained(3, loss_cls=8.)], '20260102_000000')
    run = read_run(str(student))
    assert run.series('loss_cls') == [(1, 2.), (2, 9.), (3, 8.)]
    assert run.last('coco/bbox_mAP') == 0.4


def test_a_line_that_was_not_finished_is_left_out_and_named(student):
    write_log(student, [trained(3, loss_cls=9.), '{"lr": 0.1, "los'], '20260102_000000')
    run = read_run(str(student))
    assert run.series('loss_cls')[-1] == (3, 9.)
    assert re.search('line 2 of .* is not complete and was left out', run.notes[0])
    assert 'is not complete' in as_page([run])


def test_shares_of_gradients_are_no_losses_and_no_scores(distilled):
    before = read_run(str(distilled))
    name = 'gradient_share/loss_cls_kd'
    assert before.shares == []
    assert 'share of gradients' not in as_page([before])
    write_log(distilled, [{name: 0.3, 'step': 1}, {name: 0.4, 'step': 2}, trained(3, loss_cls=1.)],
              '20260102_000000')
    run = read_run(str(distilled))
    assert run.shares == [name]
    assert run.series(name) == [(1, 0.3), (2, 0.4)]
    assert (run.metrics, run.validation) == (before.metrics, before.validation)
    assert name not in run.losses
    assert 'share of gradients' in as_page([run])


def test_shares_of_a_resumed_run_are_joined_term_by_term(student):
    """Resumed at step 2: a measured weight gives its shares from step 1 on when it is fixed."""
    kd, pkd = 'gradient_share/loss_cls_kd', 'gradient_share/loss_neck_pkd'
    write_log(student, [trained(1, loss_cls=9.), {kd: 0.1, 'step': 1}, {kd: 0.2, 'step': 2}])
    write_log(student, [{kd: 0.3, 'step': 2}, {pkd: 4., 'step': 1}, {pkd: 5., 'step': 2}],
              '20260102_000000')
    run = read_run(str(student))
    assert run.series(kd) == [(1, 0.1), (2, 0.3)]
    assert run.series(pkd) == [(1, 4.), (2, 5.)]


def test_folders_that_are_not_work_dirs_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no work dir `.*`.*; write the folder that'):
        read_run(str(tmp_path / 'none'))
    with pytest.raises(ValueError, match='is not a work dir of a run: .* neither .*scalars.json'):
        read_run(str(tmp_path))


def test_a_test_gives_the_score_of_a_teacher_that_was_trained_elsewhere(tmp_path, student,
                                                                        distilled):
    """A test writes no scalars. Its config names the file of which a distilled run has the hash."""
    weights = tmp_path / 'teacher.pth'
    weights.write_bytes(b'weights')
    inner = tmp_path / 'teacher' / '20260102_000000'
    inner.mkdir(parents=True)
    (inner / '20260102_000000.json').write_text(json.dumps({'coco/bbox_mAP': 0.6, 'time': 1.}))
    (tmp_path / 'teacher' / 'teacher.py').write_text(
        f"model = dict(type='RetinaNet', depth=50)\nload_from = {str(weights)!r}\n")
    runs = [read_run(str(one), one.name) for one in (student, distilled, tmp_path / 'teacher')]
    runs[1].record['networks'] = dict(teacher=dict(
        checkpoint_hash=hashlib.sha256(b'weights').hexdigest()))
    assert roles_of(runs) == dict(student='student alone', kd='distilled', teacher='teacher')
    titles, rows, remarks = summary_of(runs)
    assert titles[2] == 'coco/bbox_mAP, last'
    assert [row[2:5] for row in rows] == [
        [0.4, 0.4, None], [0.45, 0.45, '+0.05'], [0.6, None, None]]
    assert len(remarks) == 1
    assert 'depends on the seed' in remarks[0]
    assert '0.6' in as_page(runs)
    weights.unlink()
    run = read_run(str(tmp_path / 'teacher'))
    assert run.checkpoint == ''
    assert run.notes == [f'the checkpoint {weights} does not exist']
    assert roles_of([*runs[:2], run])[run.name] == ''


def test_tables_by_class_of_both_libraries():
    text = '''
+----------+-------+
| category | mAP   |
+----------+-------+
| old      | 0.1   |
+----------+-------+
words
+-----------+-------+--------+
| category  | mAP   | mAP_50 |
+-----------+-------+--------+
| RBC       | 0.5   | nan    |
| Platelets | 0.25  | 0.5    |
+-----------+-------+--------+
'''
    assert class_table(text) == {'RBC': {'mAP': 50.}, 'Platelets': {'mAP': 25., 'mAP_50': 50.}}
    assert class_table('no table') == {}


class Checker(HTMLParser):
    """Collects addresses and checks that elements are closed in the right order."""

    VOID = {'meta', 'img', 'path', 'circle', 'polyline'}

    def __init__(self):
        super().__init__()
        self.open, self.addresses = [], []

    def handle_starttag(self, tag, attrs):
        self.addresses += [value for name, value in attrs if name in ('src', 'href')]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert tag in self.VOID or self.open.pop() == tag

    def check(self, text):
        self.feed(text)
        assert self.open == []
        assert all(one.startswith('data:') for one in self.addresses)
        assert not re.search(r'https?://|url\(|@import|<script|<link', text)


def test_the_page_opens_without_a_network(student, distilled):
    runs = [read_run(str(student), 'alone'), read_run(str(distilled), '<kd> & "more"')]
    text = as_page(runs, ['<div class="row"></div>'], 'Command: report.py')
    Checker().check(text)
    assert '&lt;kd&gt; &amp; &quot;more&quot;' in text
    assert '<kd>' not in text
    assert '+0.05' in text  # 0.45 compared with 0.4
    for word in ('prefers-color-scheme: dark', 'loss_cls_kd', 'share of each loss', 'RBC',
                 'student alone', 'seconds per iteration', 'mmkd.KDLoss'):
        assert word in text


def test_report_without_a_plain_run_states_it(distilled):
    assert 'The student alone is not among these runs' in as_page([read_run(str(distilled))])


def test_share_of_a_loss_in_the_total(distilled):
    """The share is 6 of 8, then 1 of 2."""
    from mmkd.reports.run import _shares
    drawn = _shares(read_run(str(distilled)))[0]
    lines = re.findall(r'points="([^"]+)"', drawn)
    heights = [[float(point.split(',')[1]) for point in line.split()] for line in lines]
    zero, top = heights[1][0] + (heights[0][0] - heights[1][0]) * 1.5, heights[1][0]
    assert (zero - heights[1][1]) / (zero - top) == pytest.approx(0.5 / 0.75, abs=0.01)
    assert (zero - heights[0][1]) / (zero - top) == pytest.approx(0.5 / 0.75, abs=0.01)


def test_charts():
    assert chart('empty', [Line('a', [])], 'x', 'y') == ''
    assert chart('nan', [Line('a', [(1, float('nan'))])], 'x', 'y') == ''
    assert chart('log', [Line('a', [(1, 0.)])], 'x', 'y', log=True) == ''
    for points in ([(1, 2.)], [(1, 2.), (2, 2.)], [(0, -1.), (5, 1e6)]):
        drawn = chart('t', [Line('a', points)], 'x', 'y')
        assert 'nan' not in drawn
        assert 'inf' not in drawn
    zeros = chart('scores that are all 0', [Line('a', [(1, 0.), (2, 0.)])], 'x', 'y')
    assert '>0</text>' in zeros
    assert not re.search(r'>[-−]\d', zeros)
    assert len(thinned([(n, n) for n in range(7)])) == 7
    assert thinned([(n, 1.) for n in range(601)])[0] == (1., 1.)
    assert ticks(0.31, 0.52) == [0.35, 0.4, 0.45, 0.5]
    assert ticks(3, 7, log=True) == [3., 4., 5., 6., 7.]


def test_tables_align_numbers():
    text = table(['a', 'b'], [['x', 1], ['y', None]])
    assert '<td>x</td><td class="number">1</td>' in text
    Checker().check(page('t', [text]))
