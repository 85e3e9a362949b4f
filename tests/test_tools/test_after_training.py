"""Published checkpoints have a model card and can be exported without mmkd."""
import os
import re
import subprocess
import sys

import pytest
import torch
import yaml
from conftest import build, retinanet, save_teacher, segmentor
from mmengine.config import Config
from support.exporting import END, WITHOUT_MMKD
from support.tools import ROOT, run_tool

SCRIPT = WITHOUT_MMKD + """
image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    expected = raw(image)
    traced = torch.jit.trace(raw, image)
    traced.save('model.pt')
    found = torch.jit.load('model.pt')(image)
torch.save(dict(expected=expected, found=found), 'outputs.pth')
""" + END


@pytest.fixture(params=['mmseg', 'mmdet'])
def student(request, tmp_path):
    model = segmentor() if request.param == 'mmseg' else retinanet()
    Config(dict(default_scope=request.param, model=model)).dump(str(tmp_path / 'model.py'))
    save_teacher(tmp_path / 'epoch_1.pth', model, scope=request.param)
    return build(model, request.param).eval()


@pytest.mark.slow
def test_published_file_is_exported_without_mmkd(student, tmp_path):
    run_tool('publish_student.py', 'model.py', 'epoch_1.pth', '--out', 'out', cwd=tmp_path)
    path, = (tmp_path / 'out').glob('*.pth')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', SCRIPT, str(path)],
                          cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, 'PYTHONPATH': ''})
    assert done.returncode == 0, done.stderr
    out = torch.load(tmp_path / 'outputs.pth', weights_only=True)
    student.load_state_dict(torch.load(tmp_path / 'epoch_1.pth', weights_only=True)['state_dict'])
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = student(image, mode='tensor')
    plain = [one for level in plain for one in level] if isinstance(plain, tuple) else [plain]
    for name in ('expected', 'found'):
        given = out[name] if isinstance(out[name], tuple) else [out[name]]
        assert len(given) == len(plain)
        for one, other in zip(given, plain):
            assert torch.equal(one, other) if name == 'expected' else torch.allclose(
                one, other, atol=1e-5)


def header_of(text):
    found = re.match(r'---\n(.*?)\n---\n', text, re.DOTALL)
    return yaml.safe_load(found.group(1))


def test_card_has_teacher_method_and_scores(monkeypatch):
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'tools'))
    from model_card import TO_FILL, card_of
    meta = dict(epoch=3, iter=60, dataset_meta=dict(classes=('disc', 'square')), mmkd=dict(
        networks=dict(teacher=dict(checkpoint='big.pth', checkpoint_hash='0abc')),
        distill=[dict(loss='DISTLoss', on='cls')]))
    config = Config(dict(default_scope='mmdet', model=retinanet(), train_dataloader=dict(
        dataset=dict(type='RepeatDataset', dataset=dict(type='CocoDataset')))))
    text = card_of('out/small-01234567.pth', config, meta, {'coco/bbox_mAP': 0.41})
    head = header_of(text)
    assert head['pipeline_tag'] == 'object-detection'
    assert head['license'] == TO_FILL
    assert head['model-index'][0]['results'][0]['metrics'] == [
        dict(type='coco/bbox_mAP', value=0.41)]
    assert head['distillation_losses'] == ['DISTLoss']
    assert head['teachers'] == ['big.pth']
    assert ': mmkd is not needed to use it.' in text
    for words in ('checkpoint `big.pth`', '`0abc`', 'loss `DISTLoss`', 'CocoDataset',
                  'disc, square', '3 epochs, 60 iterations', '| coco/bbox_mAP | 0.41 |'):
        assert words in text
    plain = card_of('a.pth', Config(dict(model=retinanet())), {}, {})
    assert 'model-index' not in header_of(plain)
    assert plain.count(TO_FILL) >= 6
    model = dict(retinanet(), backbone=dict(type='mmkd.EfficientNetLite', variant='lite0'))
    own = card_of('a.pth', Config(dict(model=model)), {}, {})
    assert 'of a model with `mmkd.EfficientNetLite`: install mmkd to build it.' in own
    assert 'not needed' not in own


@pytest.mark.parametrize('text', ['mAP', 'mAP=high', '=1'])
def test_score_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.syspath_prepend(os.path.join(ROOT, 'tools'))
    from model_card import parse_scores
    assert parse_scores(['a/b=0.5']) == {'a/b': 0.5}
    with pytest.raises(ValueError, match=f'--score: `{text}` is not NAME=NUMBER; write a score'):
        parse_scores([text])


def test_card_is_written_once(student, tmp_path):
    options = 'publish_student.py', 'model.py', 'epoch_1.pth', '--out', 'out', '--card'
    done = run_tool(*options, '--score', 'mIoU=45.6', cwd=tmp_path)
    assert 'README.md: complete the fields' in done.stdout
    assert '| mIoU | 45.6 |' in (tmp_path / 'out' / 'README.md').read_text()
    again = run_tool(*options, cwd=tmp_path, check=False)
    assert again.returncode == 1
    assert 'README.md` exists, and may have been edited; move it' in again.stderr
    assert len(list((tmp_path / 'out').glob('*.pth'))) == 1
