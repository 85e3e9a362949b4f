"""Detectors with a text prompt: only their features can be compared.

Real models of mmdet, except for the language model: BERT needs a package and a download.
"""
import pytest
import torch
from conftest import build, detector_config, distiller, retinanet, save_teacher, train
from mmengine.config import Config
from mmengine.registry import MODELS
from torch import nn

from mmkd.files.zoo import config_path
from mmkd.inspection import inspect_pair
from mmkd.points import TextDetector, family_of, find_point, points_of

HINT = dict(type='mmkd.MSELoss', on='neck')
WIDTH = 16
"""Number of channels of the text features."""


class Tokens:
    """The output of a `transformers` tokenizer. Here each letter is a token."""

    def __init__(self, text):
        self.input_ids = torch.tensor([[ord(letter) for letter in text]])

    def char_to_token(self, position):
        return position


@MODELS.register_module()
class LetterModel(nn.Module):
    """Replaces BERT: embeds each letter separately, and counts its calls."""
    max_tokens, pad_to_max = 256, False

    def __init__(self):
        super().__init__()
        self.language_backbone = nn.Module()
        self.language_backbone.body = nn.Embedding(256, WIDTH)
        self.language_backbone.body.language_dim = WIDTH
        self.calls = 0

    @staticmethod
    def tokenizer(texts, **_):
        return Tokens(texts[0])

    def forward(self, texts):
        self.calls += 1
        longest = max(map(len, texts))
        ids = torch.tensor([[ord(letter) for letter in text.ljust(longest)] for text in texts])
        masks = torch.eye(longest, dtype=torch.bool).expand(len(texts), -1, -1)
        return dict(embedded=self.language_backbone.body(ids), masks=masks,
                    position_ids=torch.arange(longest).expand_as(ids),
                    text_token_mask=torch.ones_like(ids, dtype=torch.bool))


def backbone_and_neck(model, width):
    model.backbone.update(depth=18, base_channels=width, frozen_stages=-1, norm_eval=False,
                          init_cfg=None)
    model.neck.update(in_channels=[width * 2**i for i in (1, 2, 3)])


def grounding_dino(width=8):
    """mmdet's Grounding DINO on a narrow ResNet, with one layer of each kind."""
    model = Config.fromfile(config_path(
        'mmdet::grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py')).model
    backbone_and_neck(model, width)
    model.language_model = dict(type='mmengine.LetterModel')
    model.encoder.update(num_layers=1, num_cp=0)
    model.decoder.update(num_layers=1)
    model.num_queries = 20
    return model.to_dict()


def glip(monkeypatch, width=8):
    """mmdet's GLIP on a narrow ResNet, without the fusion of image and text."""
    class Settings:
        hidden_size = WIDTH

        @classmethod
        def from_pretrained(cls, name):
            return cls()

    monkeypatch.setattr('mmdet.models.dense_heads.atss_vlfusion_head.BertConfig', Settings)
    model = Config.fromfile(config_path(
        'mmdet::glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py')).model
    other = Config.fromfile(config_path(
        'mmdet::grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py')).model
    model.backbone = other.backbone
    backbone_and_neck(model, width)
    model.neck.out_channels = 16
    model.bbox_head.update(in_channels=16, feat_channels=16, num_dyhead_blocks=1)
    model.language_model = dict(type='mmengine.LetterModel')
    return model.to_dict()


@pytest.fixture(params=['GLIP', 'GroundingDINO'])
def model(request, monkeypatch):
    return grounding_dino() if request.param == 'GroundingDINO' else glip(monkeypatch)


def test_features_are_the_points_and_the_rest_is_refused(model):
    network = build(model)
    assert isinstance(family_of(network), TextDetector)
    assert list(points_of(network)) == ['neck', 'backbone']
    assert find_point(network, 'backbone.layer3').paths == ('backbone.layer3', )
    for name in ('cls', 'reg', 'cls.0', 'bbox_head', 'language_model.language_backbone'):
        with pytest.raises(ValueError, match=f"`{name}`.*the words of a prompt.*compare 'neck' or "
                           "'backbone'") as info:
            find_point(network, name, 'teacher')
        assert '\n' not in str(info.value)


def test_table_of_a_pair_offers_the_features_alone(model):
    found = inspect_pair(*(Config(dict(default_scope='mmdet', model=one))
                           for one in (retinanet(), model)))
    verdicts = {one.point: one.verdict for one in found}
    assert verdicts['backbone'] != 'cannot be compared'
    assert verdicts['cls'] == verdicts['reg'] == 'cannot be compared'
    assert all("compare 'neck' or 'backbone'" in one.problem for one in found
               if one.point in ('cls', 'reg'))


def test_teacher_computes_features_without_a_text(model, shapes, tmp_path):
    teacher = save_teacher(tmp_path / 't.pth', model)
    runner, losses = train(detector_config(
        shapes, distiller(retinanet(), teacher, dict(HINT, on='backbone.layer3')),
        str(tmp_path / 'run')))
    assert all(step['loss_backbone_layer3_mse'] > 0 for step in losses)
    network = runner.model.teacher.model
    assert network.language_model.calls == 0
    assert not any(p.requires_grad for p in network.parameters())


def test_student_trains_with_its_own_losses_and_features(shapes, tmp_path):
    """The student's own losses use the text, as without a teacher."""
    teacher = save_teacher(tmp_path / 't.pth', grounding_dino(width=12))
    config = detector_config(shapes, distiller(grounding_dino(), teacher, HINT),
                             str(tmp_path / 'run'), val_dataloader=None, val_evaluator=None,
                             val_cfg=None)
    config.train_dataloader.dataset.return_classes = True
    config.train_dataloader.dataset.pipeline[-1].meta_keys = (
        'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction',
        'text', 'custom_entities')
    runner, losses = train(config)
    assert runner.model.student.language_model.calls == len(losses) == 2
    assert runner.model.teacher.model.language_model.calls == 0
    assert all(step['loss_neck_mse'] > 0 and step['loss_cls'] > 0 for step in losses)
