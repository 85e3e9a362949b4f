"""mmdet and mmseg can read the files of tools/label.py and tools/split_labels.py."""
import importlib
import json
import os
import pathlib
import re
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import CLASSES, detector_config, retinanet, save_teacher, segmentor, segmentor_config
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from support.neighbours import needs
from support.tools import ROOT, TOOLS

FEW = os.path.join(ROOT, 'configs', 'few_labels')


@pytest.fixture
def tool(monkeypatch, tmp_path, capsys):
    """Run a tool in this process; return its output or its error message."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.chdir(tmp_path)

    def call(name, *words):
        module = importlib.import_module(name)
        monkeypatch.setattr('sys.argv', [f'{name}.py', *map(str, words)])
        try:
            importlib.import_module('command').run(module.main, getattr(module, 'KEPT', ''))
        except SystemExit as stopped:
            if stopped.code == 130:
                return capsys.readouterr().err.strip().splitlines()[-1]
            said = str(stopped.code) if isinstance(stopped.code, str) else capsys.readouterr().err
            assert 1 <= len(said.strip().splitlines()) <= 4
            return said
        return capsys.readouterr().out

    return call


@pytest.fixture
def detector(shapes, tmp_path):
    """Write config, checkpoint and images of a detector whose scores are near one half."""
    shutil.copytree(shapes, tmp_path / 'images', ignore=shutil.ignore_patterns('*.json'))
    config = detector_config(shapes, dict(retinanet(), test_cfg=dict(
        nms_pre=50, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
        max_per_img=20)), str(tmp_path / 'work'))
    config.dump(str(tmp_path / 'detector.py'))
    save_teacher(tmp_path / 'detector.pth', config.model.to_dict())
    saved = torch.load(tmp_path / 'detector.pth', weights_only=False)
    weights = saved['state_dict']
    torch.manual_seed(3)
    weights['bbox_head.retina_cls.bias'].normal_(std=.5)
    weights['bbox_head.retina_cls.weight'].normal_(std=.3)
    torch.save(saved, tmp_path / 'detector.pth')
    return ['detector.py', 'detector.pth', 'images', '--num-workers', 0, '--device', 'cpu']


def predictions(folder):
    """Return the predictions of mmdet's inference function."""
    from mmdet.apis import inference_detector, init_detector
    model = init_detector(str(folder / 'detector.py'), str(folder / 'detector.pth'), device='cpu')
    return {f'{number}.png': inference_detector(
        model, str(folder / 'images' / f'{number}.png')).pred_instances for number in range(4)}


def read_coco(path):
    content = json.loads((path / 'annotations.json').read_text())
    names = {one['id']: one['file_name'] for one in content['images']}
    found = {name: [] for name in names.values()}
    for one in content['annotations']:
        found[names[one['image_id']]].append(one)
    return content, found


def test_a_detector_writes_what_mmdet_predicts_and_reads(detector, tool, tmp_path):
    (tmp_path / 'images' / 'broken.png').write_bytes(b'no image')
    thr = dict(zip(CLASSES, (.6, .8, .7)))
    said = tool('label', *detector, '--out', 'out', '--score-thr',
                *(f'{name}={value}' for name, value in thr.items()))
    assert 'broken.png cannot be read as an image' in said
    content, found = read_coco(tmp_path / 'out')
    assert [one['name'] for one in content['categories']] == list(CLASSES)
    assert all((one['width'], one['height']) == (96, 64) for one in content['images'])
    least = torch.tensor(list(thr.values()))
    total = 0
    for name, predicted in predictions(tmp_path).items():
        predicted = predicted[predicted.scores >= least[predicted.labels]]
        boxes = predicted.bboxes.clamp(min=0).numpy()
        boxes[:, 2:] -= boxes[:, :2]
        kept = (boxes[:, 2:] >= 1).all(1)
        assert np.allclose([one['bbox'] for one in found[name]], boxes[kept], atol=.02)
        assert [one['category_id'] - 1 for one in found[name]] == predicted.labels[kept].tolist()
        assert [one['score'] for one in found[name]] == pytest.approx(
            predicted.scores[kept].tolist(), abs=1e-4)
        total += kept.sum()
    assert total > 3
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['unreadable'] == ['broken.png']
    assert sum(summary['labels'].values()) == total
    with DefaultScope.overwrite_default_scope('mmdet'):
        dataset = DATASETS.build(dict(
            type='CocoDataset', ann_file=str(tmp_path / 'out' / 'annotations.json'),
            data_prefix=dict(img=str(tmp_path / 'images')), metainfo=dict(classes=CLASSES)))
    assert sum(len(dataset.get_data_info(n)['instances']) for n in range(4)) == total
    with Image.open(tmp_path / 'out' / 'sheet.png') as sheet:
        assert np.asarray(sheet).std() > 10


def test_a_killed_run_goes_on_and_other_settings_are_refused(detector, tool, tmp_path):
    tool('label', *detector, '--out', 'whole')
    label = importlib.import_module('label')
    real = label.Progress.add
    done = []

    def killed(self, record):
        if len(done) == 2:
            with open(self.path, 'a') as file:
                file.write('{"name": "3.p')  # an unfinished line
            raise KeyboardInterrupt
        done.append(record['name'])
        real(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label.Progress, 'add', killed)
        said = tool('label', *detector, '--out', 'out', '--batch-size', 1)
    assert said == 'label.py: interrupted; the labels so far are kept, run it again to go on'
    assert not (tmp_path / 'out' / 'annotations.json').exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label.Progress, 'add',
                      lambda self, record: (done.append(record['name']), real(self, record)))
        tool('label', *detector, '--out', 'out', '--batch-size', 1)
    assert sorted(done) == [f'{number}.png' for number in range(4)]  # none twice
    assert (tmp_path / 'out' / 'annotations.json').read_bytes() == (
        tmp_path / 'whole' / 'annotations.json').read_bytes()
    assert not (tmp_path / 'out' / 'progress.jsonl').exists()
    assert 'out is finished' in tool('label', *detector, '--out', 'out')
    said = tool('label', *detector, '--out', 'out', '--score-thr', '0.6')
    assert 'has labels of other settings: score_thr: `0.5` then, `0.6` now' in said


def test_classes_are_filtered_and_per_class_and_ignored(detector, tool, tmp_path):
    tool('label', *detector, '--out', 'all', '--score-thr', '.8', '--ignore-thr', '.6')
    tool('label', *detector, '--out', 'one', '--score-thr', f'{CLASSES[1]}=.8', '--per-class', 1,
         '--ignore-thr', '.6', '--classes', CLASSES[1])
    _, every = read_coco(tmp_path / 'all')
    content, found = read_coco(tmp_path / 'one')
    assert content['categories'] == [dict(id=2, name=CLASSES[1])]
    for name, annotations in every.items():
        assert all(one['iscrowd'] == (one['score'] < .8) for one in annotations if 'score' in one)
        best = [one for one in annotations if one['category_id'] == 2 and not one['iscrowd']][:1]
        assert [one['bbox'] for one in found[name] if not one['iscrowd']] == [
            one['bbox'] for one in best]
    assert any(one['iscrowd'] for annotations in every.values() for one in annotations)


@pytest.mark.slow
def test_a_student_trains_on_the_labels(detector, tool, tmp_path, shapes):
    from conftest import train
    tool('label', *detector, '--out', 'out')
    config = detector_config(shapes, retinanet(), str(tmp_path / 'run'))
    config.train_dataloader.dataset.update(
        ann_file=str(tmp_path / 'out' / 'annotations.json'),
        data_prefix=dict(img=str(tmp_path / 'images')))
    _, losses = train(config)
    assert losses
    assert all(np.isfinite(value) for one in losses for value in one.values())


@pytest.fixture
def mapper(streets, tmp_path):
    config = segmentor_config(streets, segmentor(), str(tmp_path / 'work'))
    config.dump(str(tmp_path / 'segmentor.py'))
    from mmseg.datasets import CityscapesDataset
    save_teacher(tmp_path / 'segmentor.pth', config.model.to_dict(),
                 CityscapesDataset.METAINFO['classes'], scope='mmseg')
    saved = torch.load(tmp_path / 'segmentor.pth', weights_only=False)
    saved['state_dict']['decode_head.conv_seg.weight'].normal_(generator=torch.Generator(
        ).manual_seed(0))
    torch.save(saved, tmp_path / 'segmentor.pth')
    return ['segmentor.py', 'segmentor.pth', 'segmentor.py', '--num-workers', 0, '--device', 'cpu']


def test_a_segmentor_writes_maps_that_mmseg_reads(mapper, tool, tmp_path, streets):
    from mmseg.apis import inference_model, init_model
    tool('label', *mapper, '--out', 'out', '--score-thr', '.4')
    model = init_model(str(tmp_path / 'segmentor.py'), str(tmp_path / 'segmentor.pth'), 'cpu')
    model.cfg.test_pipeline = model.cfg.test_dataloader.dataset.pipeline
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(dict(
            type='CityscapesDataset', data_prefix=dict(
                img_path=f'{streets}/leftImg8bit/train', seg_map_path=str(tmp_path / 'out/labels')),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                      dict(type='PackSegInputs')]))
    assert len(dataset) == 4
    shares = []
    for number in range(4):
        sample = dataset[number]['data_samples']
        predicted = inference_model(model, sample.img_path).seg_logits.data.softmax(0)
        scores, labels = predicted.max(0)
        read = sample.gt_sem_seg.data[0]
        clear = (scores - .4).abs() > 1e-4
        assert torch.equal(read[clear], torch.where(scores >= .4, labels, 255)[clear])
        shares.append(float((read != 255).float().mean()))
    assert 0 < np.mean(shares) < 1
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['share'] == pytest.approx(np.mean(shares), abs=1e-3)


def test_maps_of_a_plain_folder_are_read_as_the_page_says(mapper, tool, tmp_path, streets):
    """With the suffixes of docs/unlabelled_images.md."""
    (tmp_path / 'IMAGES').mkdir()
    for number, path in enumerate(sorted(pathlib.Path(streets).rglob('*leftImg8bit.png'))[:2]):
        with Image.open(path) as image:
            image.save(tmp_path / 'IMAGES' / f'{number}.jpg')
    mapper[2] = 'IMAGES'
    tool('label', *mapper, '--out', 'labels', '--score-thr', '.1')
    page = pathlib.Path(ROOT, 'docs', 'unlabelled_images.md').read_text()
    written, = re.findall(r"pseudo = (dict\(type='CityscapesDataset'.*?\)\))", page, re.DOTALL)
    train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                      dict(type='PackSegInputs')]
    entry = eval(written, dict(_base_=SimpleNamespace(train_pipeline=train_pipeline)))
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(entry)
        assert len(dataset) == 2
        assert all((one['data_samples'].gt_sem_seg.data != 255).any() for one in dataset)


@pytest.mark.slow
def test_maps_without_any_label_are_written(mapper, tool, tmp_path):
    assert 'WARNING: no image has labels' in tool('label', *mapper, '--out', 'out', '--score-thr',
                                                  '1')
    assert (tmp_path / 'out' / 'sheet.png').exists()


def test_zero_label_is_written_for_sets_that_reduce_it(tool, tmp_path):
    files = importlib.import_module('label_files')
    files.write_map('maps', 'a/b.jpg', np.array([[0, 4, 255]]), True)
    with Image.open(tmp_path / 'maps' / 'a' / 'b.png') as image:
        assert np.asarray(image).tolist() == [[1, 5, 0]]


def test_model_with_a_text_prompt_labels_any_class(shapes, tool, tmp_path):
    """By names or by texts. The labels are mmdet's predictions for these texts."""
    needs('transformers')
    from support.words import text_detector, write_bert
    model = text_detector('grounding_dino', write_bert(tmp_path / 'bert'))
    model['encoder']['num_cp'] = 0
    shutil.copytree(shapes, tmp_path / 'images', ignore=shutil.ignore_patterns('*.json'))
    config = detector_config(shapes, model, str(tmp_path / 'work'))
    config.dump(str(tmp_path / 'model.py'))
    save_teacher(tmp_path / 'model.pth', model)
    words = ['model.py', 'model.pth', 'images', '--num-workers', 0, '--device', 'cpu',
             '--score-thr', 0, '--min-size', 0]
    tool('label', *words, '--out', 'out', '--classes', 'dog', 'cat', '--prompts', 'cat=a cat')
    content, found = read_coco(tmp_path / 'out')
    assert [one['name'] for one in content['categories']] == ['dog', 'cat']
    from mmdet.apis import inference_detector, init_detector
    network = init_detector(str(tmp_path / 'model.py'), str(tmp_path / 'model.pth'), device='cpu')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(96, 64)),
                dict(type='PackDetInputs', meta_keys=(
                    'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'text',
                    'custom_entities'))]
    from mmengine.dataset import Compose
    with DefaultScope.overwrite_default_scope('mmdet'):
        pipeline = Compose(pipeline)
    for number in range(4):
        predicted = inference_detector(
            network, str(tmp_path / 'images' / f'{number}.png'), pipeline,
            text_prompt=('dog', 'a cat'), custom_entities=True).pred_instances
        labels = found[f'{number}.png']
        assert len(labels) > 5
        assert [one['score'] for one in labels] == pytest.approx(
            predicted.scores.sort(descending=True)[0].tolist()[:len(labels)], abs=1e-4)
        assert {one['category_id'] for one in labels} <= {1, 2}
    settings = json.loads((tmp_path / 'out' / 'provenance.json').read_text())['settings']
    assert settings['prompts'] == ['dog', 'a cat']
    assert '`--prompts` names dgo' in tool('label', *words, '--out', 'no', '--classes', 'dog',
                                         '--prompts', 'dgo=a dog')
    said = tool('label', *words, '--out', 'no', '--classes', 'dog', 'cat', '--prompts', 'a dog',
                'cat=a cat')
    assert ('--prompts takes a text for each class, in order, or CLASS=TEXT, but got both: '
            "'a dog', 'cat=a cat'; write each as CLASS=TEXT") in said
    said = tool('label', *words, '--out', 'no', '--classes', 'dog', '--prompts', 'dog=a', 'dog=b')
    assert '--prompts names dog twice' in said
    saved = torch.load(tmp_path / 'model.pth', weights_only=False)
    torch.save(dict(saved, meta={}), tmp_path / 'nameless.pth')
    bare = Config.fromfile(str(tmp_path / 'model.py'))
    bare.pop('train_dataloader')
    bare.dump(str(tmp_path / 'bare.py'))
    said = tool('label', 'bare.py', 'nameless.pth', *words[2:], '--out', 'no')
    assert 'names the classes of the model; write --classes with the names to ask for' in said
    said = tool('label', *words, '--out', 'no', '--classes', 'dog', '--prompts', 'wow ' * 20)
    assert 'the prompts of 1 classes have 63 tokens, but the text encoder of GroundingDINO ' \
        'reads 32; write shorter --prompts' in said
    assert not (tmp_path / 'no').exists()


def test_prompts_are_for_models_with_one(detector, tool):
    assert '--prompts is for models with a text prompt, but the model is a RetinaNet' in tool(
        'label', *detector, '--out', 'out', '--prompts', 'disc=round')


def test_too_many_images_without_labels_warn_once(detector, tool, monkeypatch):
    label = importlib.import_module('label')
    monkeypatch.setattr(label, 'MOST_WITHOUT', 2)
    said = []
    monkeypatch.setattr(label.tqdm, 'write', lambda self, text: said.append(text))
    out = tool('label', *detector, '--out', 'out', '--score-thr', '1')
    assert len(said) == 1
    assert 'no prediction has become a label in 2 images in a row; the highest score is' in said[0]
    assert 'WARNING: no image has labels' in out


@pytest.mark.slow
def test_overlap_with_another_set_warns(detector, tool):
    out = tool('label', *detector, '--out', 'out', '--against', 'detector.py')
    assert out.count('4 of 4 images are in the train set of detector.py, too, by SHA-256') == 1


@pytest.mark.parametrize(('changed', 'words'), [
    ({2: 'empty'}, 'no image in empty: expected a file that ends in .jpg'),
    ({2: 'nowhere'}, 'no images at nowhere (looked from'),
    ({2: 'list.txt'}, 'names 1 files that do not exist'),
    ({1: 'nothing.pth'}, 'no checkpoint at `nothing.pth`'),
    ({1: 'other.pth'}, 'does not fit its config'),
    ({7: ['--score-thr', 'high']}, 'or CLASS=NUMBER for each class, but got high; write for'),
    ({7: ['--score-thr', '50']}, '`score_thr` must be from 0 to 1, but got 50.0; write for instance'
                                 ' 0.5'),
    ({7: ['--score-thr', 'a=.5', 'b=.5', 'a=.6']}, '--score-thr names a twice; write each class'),
    ({2: 'hidden'}, 'but it has 1 file with another ending and 2 hidden files or folders; give'),
    ({2: 'broken'}, 'none of the 1 images in '),
    ({7: ['--score-thr', 'dog=.5']}, '`score_thr` must have a threshold for each class'),
    ({7: ['--classes', 'dog']}, '--classes dog: the model has'),
    ({7: ['--out', 'empty/..']}, 'has files, but none of this tool'),
    ({7: ['--batch-size', '0']}, '--batch-size is 1 or more'),
])
def test_wrong_input_is_refused_in_a_line(detector, tool, tmp_path, changed, words):
    for name in ('empty', 'hidden/.ipynb_checkpoints', 'broken'):
        (tmp_path / name).mkdir(parents=True)
    for name in ('hidden/.ipynb_checkpoints/a.png', 'hidden/.b.png', 'hidden/c.txt',
                 'broken/a.png'):
        (tmp_path / name).touch()
    (tmp_path / 'list.txt').write_text('nowhere.png\n')
    save_teacher(tmp_path / 'other.pth', retinanet(width=12))
    words_of = [*detector, '--out', 'out']
    for place, value in changed.items():
        if isinstance(value, list):
            words_of += value
        else:
            words_of[place] = value
    assert words in tool('label', *words_of)
    assert not (tmp_path / 'out').exists()


def test_repaired_files_are_read_again(detector, tool, tmp_path):
    """Also after a run that was killed. A finished one says what it could not read."""
    whole = {name: (tmp_path / 'images' / name).read_bytes() for name in ('0.png', '2.png')}
    for name in whole:
        (tmp_path / 'images' / name).write_bytes(b'')
    label = importlib.import_module('label')
    real = label.Progress.add

    def killed(self, record):
        if record['name'] == '3.png':
            raise KeyboardInterrupt
        real(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label.Progress, 'add', killed)
        tool('label', *detector, '--out', 'out')
    (tmp_path / 'images' / '0.png').write_bytes(whole['0.png'])
    said = tool('label', *detector, '--out', 'out')
    assert '2.png cannot be read' in said
    assert '0.png cannot be read' not in said
    assert set(read_coco(tmp_path / 'out')[1]) == {'0.png', '1.png', '3.png'}
    assert ('out is finished: 4 images were labelled with these settings; 1 of them could not be '
            'read (summary.json): to label them, write the files again, and give a new --out') in (
        tool('label', *detector, '--out', 'out'))


def test_a_refused_command_leaves_no_settings(mapper, tool, tmp_path):
    """The corrected one would be refused for them."""
    def thrown():
        raise SystemExit('no label of it')

    for words in (['--per-class', 3], ['--ignore-thr', .1]):
        said = tool('label', *mapper, '--out', 'out', *words)
        assert 'are for objects, but the model, EncoderDecoder, predicts one label for' in said
        assert not (tmp_path / 'out').exists()
    label = importlib.import_module('label')
    with pytest.MonkeyPatch.context() as patch:  # a fault in the first batch
        patch.setattr(label, 'truth_of', lambda *args: thrown())
        assert 'no label of it' in tool('label', *mapper, '--out', 'out')
    assert not (tmp_path / 'out').exists()


def test_a_classifier_is_refused(tool, tmp_path):
    from support.classifiers import CLASSES as NAMES
    from support.classifiers import config, folder_of_images, needs_mmpretrain, resnet
    needs_mmpretrain()
    images = folder_of_images(tmp_path / 'images', 4)
    config(images, resnet(), tmp_path / 'work').dump(str(tmp_path / 'model.py'))
    save_teacher(tmp_path / 'model.pth', resnet(), NAMES, scope='mmpretrain')
    assert 'labels are boxes, masks or label maps, but the model, ImageClassifier, is a ' in tool(
        'label', 'model.py', 'model.pth', 'images', '--out', 'out', '--device', 'cpu')
    assert not (tmp_path / 'out').exists()


def test_images_that_would_share_a_label_map_are_refused(mapper, tool, tmp_path):
    (tmp_path / 'images' / 'more').mkdir(parents=True)
    for name in ('a.jpg', 'b.png', 'more/a.png', 'a.png', 'a_leftImg8bit.png'):
        (tmp_path / 'images' / name).touch()
    mapper[2] = 'images'
    assert 'the images a.jpg, a.png would have one label map, a.png; give images of one ' in tool(
        'label', *mapper, '--out', 'out')
    assert not (tmp_path / 'out').exists()


@pytest.mark.usefixtures('tool')  # which puts the tools on the path
def test_the_images_are_those_of_training_without_labels(tmp_path):
    from mmkd import ImageFolder
    for name in ('b.ppm', '.c.png', '.ipynb_checkpoints/b.png', 'd/e.JPG', 'elsewhere/f.png'):
        (tmp_path / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'images' / name).touch()
    (tmp_path / 'images' / 'elsewhere').rename(tmp_path / 'elsewhere')
    (tmp_path / 'images' / 'link').symlink_to(tmp_path / 'elsewhere')
    _, names = importlib.import_module('label_images').find_images('images')
    assert names == ['b.ppm', 'd/e.JPG', 'link/f.png']
    found = [one['img_path'] for one in ImageFolder('images')]
    assert found == [f'images/{name}' for name in names]


def test_the_threshold_of_the_models_own_config_is_named(detector, tool):
    out = tool('label', *detector, '--out', 'low', '--score-thr', '0.01')
    assert ('WARNING: scores from 0.01 are asked for, but the model predicts none below '
            '`model.test_cfg.score_thr=0.05` of its config; add --cfg-options '
            'model.test_cfg.score_thr=0.01') in out
    out = tool('label', *detector, '--out', 'none', '--cfg-options',
               'model.test_cfg.score_thr=0.99')
    assert 'WARNING: scores from 0.5 are asked for' in out
    assert ('WARNING: no image has labels; the model predicts nothing above the threshold of its '
            'own config, `model.test_cfg.score_thr=0.99`; look whether') in out
    assert 'lower --score-thr' not in out


def test_shares_are_nested_and_reproducible(detector, tool, tmp_path, shapes):
    for folder in ('one', 'two'):
        out = tool('split_labels', 'detector.py', '--out', folder, '--shares', 50, 25)
        assert '50 %: 2 images with labels, 2 without' in out
        assert '25 %: 1 images with labels, 3 without' in out
    read = {name: json.loads((tmp_path / 'one' / name).read_text())
            for name in os.listdir(tmp_path / 'one')}
    whole = json.loads(pathlib.Path(shapes, 'instances.json').read_text())
    ids = {name: {one['id'] for one in content['images']} for name, content in read.items()}
    assert ids['labelled_25.json'] < ids['labelled_50.json']
    assert ids['labelled_25.json'] | ids['unlabelled_25.json'] == set(range(4))
    assert not ids['labelled_25.json'] & ids['unlabelled_25.json']
    for name, content in read.items():
        assert content['categories'] == whole['categories']
        assert content['annotations'] == [] if name.startswith('un') else [
            one for one in whole['annotations'] if one['image_id'] in ids[name]]
        assert content == json.loads((tmp_path / 'two' / name).read_text())


@pytest.mark.parametrize(('share', 'said'), [
    ('0', "argument --shares: '0' is not a percentage greater than 0 and less than 100; write for "
          'instance 10 for a tenth of the images'),
    ('100', "'100' is not a percentage"), ('-5', "'-5' is not a percentage"),
    ('nan', "'nan' is not a percentage"), ('abc', "'abc' is not a percentage"),
    ('0.25', "'0.25' may be a fraction or a percentage; write 25 for that fraction of the images, "
             'or 0.25% for less than one image in a hundred'),
    ('0.1%', '--shares 0.1: 0.1 % of the 4 images of detector.py are 0 images, so no image with '
             'labels is left; write a percentage from 25 to 75'),
    ('1.5', '--shares 1.5: 1.5 % of the 4 images of detector.py are 0 images, so no image with '
            'labels is left; write a percentage from 25 to 75'),
    ('99', 'are 4 images, so no image without labels is left')])
def test_shares_of_no_image_are_refused(detector, tool, tmp_path, capsys, share, said):
    text = tool('split_labels', 'detector.py', '--out', 'out', '--shares', 50, share)
    text += capsys.readouterr().err
    assert said in text
    assert text.strip().count('\n') < 3
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_lists_of_a_segmentor_are_read_by_mmseg(mapper, tool, tmp_path, streets):
    tool('split_labels', 'segmentor.py', '--out', 'lists', '--shares', 25)
    seen = []
    for kind, count in (('labelled', 1), ('unlabelled', 3)):
        with DefaultScope.overwrite_default_scope('mmseg'):
            dataset = DATASETS.build(dict(
                type='CityscapesDataset', ann_file=str(tmp_path / 'lists' / f'{kind}_25.txt'),
                data_prefix=dict(img_path=f'{streets}/leftImg8bit/train',
                                 seg_map_path=f'{streets}/gtFine/train')))
        assert len(dataset) == count
        for number in range(count):
            info = dataset.get_data_info(number)
            assert os.path.isfile(info['img_path'])
            assert os.path.isfile(info['seg_map_path'])
            seen.append(info['img_path'])
    assert len(set(seen)) == 4


@pytest.mark.parametrize('folder', [
    'bccd_100', *(pytest.param(name, marks=pytest.mark.slow)
                  for name in ('bccd_10', 'bccd_25', 'camvid_10'))])
def test_configs_of_few_labels_are_read(folder):
    students = sorted(os.listdir(os.path.join(FEW, folder)))
    assert {'teacher.py', 'student.py', 'dist.py'} <= set(students)
    base = Config.fromfile(os.path.join(FEW, folder, 'student.py'))
    for name in filter(lambda name: name.endswith('.py'), students):
        config = Config.fromfile(os.path.join(FEW, folder, name))
        if name != 'teacher.py':
            assert config.train_cfg == base.train_cfg
            assert config.model.get('student', config.model) == base.model
        else:
            steps = [one.get('end') for one in config.param_scheduler]
            assert steps[-1] == config.train_cfg.max_iters
        for dataset in config.train_dataloader.dataset.get('datasets', [
                config.train_dataloader.dataset]):
            assert dataset.pipeline == base.train_dataloader.dataset.pipeline
        if name.startswith('dist_all') or name.endswith('_online.py'):
            assert '/unlabelled_' in config.model.unlabelled.dataloader.dataset.ann_file
            assert config.model.distill
    if folder != 'bccd_100':
        assert len(students) == 9  # including _base_
        rest = Config.fromfile(os.path.join(FEW, folder, '_base_', 'unlabelled.py'))
        assert '/unlabelled_' in rest.train_dataloader.dataset.ann_file
