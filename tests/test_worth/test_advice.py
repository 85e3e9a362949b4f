"""The rules of the recommendation, with invented figures."""
import pytest

from mmkd.worth import Findings, MethodFinding, Standing, is_better, is_memorised, recommend

LOGITS, FEATURES = dict(on=['cls'], kinds=['prediction']), dict(on=['neck'], kinds=['feature'])


def side(train, held_out, error=0.01):
    """Make a Standing from (accuracy, cross entropy) on both splits."""
    return Standing(*(dict(accuracy=one[0], cross_entropy=one[1], error=error) if one else {}
                      for one in (train, held_out)))


def ahead(cross_entropy, accuracy=(0., 1.)):
    """Advantage of the teacher and its standard error, by figure."""
    return dict(cross_entropy=list(cross_entropy), accuracy=list(accuracy))


def findings(teacher=60., student=50., is_trained=True, sides=None, methods=None, kind='dense',
             advantage=None):
    return Findings('student.py', 'teacher.py', kind=kind, is_trained=is_trained, metric='mAP',
                    scores=dict(teacher=dict(mAP=teacher), student=dict(mAP=student)),
                    point='cls', standings=sides or {}, advantage=advantage or {},
                    methods=methods or [
                        MethodFinding('dist', **LOGITS, ratio=1., cosine=0.1),
                        MethodFinding('pkd', **FEATURES, ratio=1., cosine=0.1)])


BLOOD_TWO_STAGE = dict(teacher=side((91.0, 0.217), (82.5, 0.422)),
                       student=side((84.9, 0.343), (84.3, 0.359)))
"""Figures of docs/results/bccd_faster_rcnn, where KD on logits made the student worse."""
BEHIND = ahead((-0.063, 0.02), (-1.8, 0.6))
"""The teacher of these figures is worse than the student, beyond two standard errors."""


@pytest.mark.parametrize(('teacher', 'verdict'), [
    (49., 'another teacher'), (50., 'another teacher'), (50.1, 'distil')])
def test_a_teacher_must_score_more_than_the_student(teacher, verdict):
    advice = recommend(findings(teacher=teacher))
    assert advice.verdict == verdict
    assert bool(advice.method) == (verdict == 'distil')
    assert f'{teacher:g} of the teacher, 50 of the student' in advice.reasons[0]


def test_an_untrained_student_is_not_compared():
    advice = recommend(findings(teacher=1., student=2., is_trained=False, sides=BLOOD_TWO_STAGE))
    assert advice.method == 'dist'
    assert '--student-checkpoint' in advice.reasons[0]
    assert is_better(findings(is_trained=False, advantage=BEHIND)) is None


def test_weak_logits_leave_only_feature_methods():
    found = findings(sides=BLOOD_TWO_STAGE, kind='roi', advantage=BEHIND)
    assert is_memorised(found)
    assert is_better(found) is False
    advice = recommend(found)
    assert advice.method == 'pkd'
    assert 'has memorised its training images' in advice.reasons[1]
    assert 'only features' in advice.reasons[1]


def test_better_teacher_with_memorised_images_is_used():
    sides = dict(teacher=side((99., 0.1), (90., 0.3)), student=side((85., 0.4), (84., 0.41)))
    advice = recommend(findings(sides=sides, advantage=ahead((0.11, 0.02), (6., 2.))))
    assert advice.method == 'dist'
    assert 'memorised' in advice.reasons[1]


@pytest.mark.parametrize(('cross_entropy', 'accuracy', 'expected'), [
    ((0.1, 0.02), (-1., 0.1), True),    # one of both figures is enough
    ((-0.1, 0.02), (1., 0.1), True),
    ((0.1, 0.06), (-1., 0.1), False),   # better within two standard errors does not count
    ((-0.1, 0.02), (1., 0.6), False),
    ((-0.1, 0.06), (-1., 0.6), None),   # neither is worse within two standard errors
    ((0.1, 0.05), (1., 0.5), None)])    # exactly two
def test_a_difference_counts_beyond_two_standard_errors(cross_entropy, accuracy, expected):
    assert is_better(findings(advantage=ahead(cross_entropy, accuracy))) is expected


def test_differences_within_two_errors_exclude_nothing():
    found = findings(sides=BLOOD_TWO_STAGE, advantage=ahead((-0.063, 0.04), (-1.8, 1.)))
    advice = recommend(found)
    assert advice.method == 'dist'
    assert 'within 2 standard errors, which excludes nothing' in advice.reasons[1]


@pytest.mark.parametrize(('held_out', 'student', 'error', 'word'), [
    (0.16, 0.2, 0.001, True),    # memorised 3/8
    (0.14, 0.2, 0.001, False),   # memorised 2/7, less than a third
    (0.16, 0.5, 0.001, False),   # the student memorised more, so the held-out set is harder
    (0.16, 0.2, 0.05, False)])   # less than two standard errors
def test_when_a_teacher_has_memorised_its_images(held_out, student, error, word):
    sides = dict(teacher=side((90., 0.1), (85., held_out), error),
                 student=side((80., 0.2), (80., 0.2 / (1 - student) if student == 0.5 else 0.2)))
    assert is_memorised(findings(sides=sides)) is word


def test_no_method_with_features():
    advice = recommend(findings(sides=BLOOD_TWO_STAGE, advantage=BEHIND,
                                methods=[MethodFinding('dist', **LOGITS)]))
    assert (advice.verdict, advice.method) == ('no method', '')
    assert 'No method with features alone' in advice.reasons[2]


@pytest.mark.parametrize(('ratio', 'cosine', 'method'), [
    (0.5, 0., 'dist'), (0.009, 0., 'pkd'), (0.5, -0.31, 'pkd'), (500., -0.29, 'dist')])
def test_gradients_exclude_methods(ratio, cosine, method):
    methods = [MethodFinding('dist', **LOGITS, ratio=ratio, cosine=cosine),
               MethodFinding('pkd', **FEATURES, ratio=1., cosine=0.)]
    assert recommend(findings(methods=methods)).method == method
    advice = recommend(findings(methods=methods[:1]))
    assert advice.verdict == ('distil' if method == 'dist' else 'no method')
    assert method == 'dist' or 'The gradients exclude dist (' in advice.reasons[2]


def test_what_was_not_measured_excludes_nothing():
    methods = [MethodFinding('dist', **LOGITS), MethodFinding('kd', **LOGITS, ratio=1., cosine=0.),
               MethodFinding('cwd', **LOGITS, problem='it has other channels')]
    assert recommend(findings(methods=methods)).method == 'dist'
    assert recommend(findings(methods=methods[:1])).method == 'dist'
    assert recommend(findings(methods=methods[2:])).verdict == 'no method'
    late = [MethodFinding('mimic', **FEATURES, is_left_out=True)]
    assert recommend(findings(methods=late)).method == 'mimic'


def test_methods_with_evidence_come_first():
    methods = [MethodFinding(name, **LOGITS, ratio=1., cosine=0.)
               for name in ('af_dcd', 'kd', 'cwd')]
    assert recommend(findings(methods=methods, kind='segmentor')).method == 'cwd'
    assert recommend(findings(methods=methods, kind='unknown')).method == 'af_dcd'


def test_a_recommendation_has_three_lines():
    for found in (findings(), findings(teacher=1.), findings(methods=[MethodFinding('kd')]),
                  Findings('s', 't')):
        advice = recommend(found)
        assert len(advice.reasons) == 3
        assert all('\n' not in reason for reason in advice.reasons)
        assert advice.as_dict()['headline'] == advice.headline
