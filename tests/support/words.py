"""A tiny BERT with random weights in the format of `transformers`, and detectors that use it."""
import json
import string
from typing import Any, Sequence

from mmengine.config import Config

from mmkd.files.zoo import config_path

ZOO = {
    'grounding_dino': 'grounding_dino/grounding_dino_r50_scratch_8xb2_1x_coco.py',
    'mm_grounding_dino': 'mm_grounding_dino/grounding_dino_swin-t_pretrain_obj365.py',
    'glip': 'glip/glip_atss_swin-t_a_fpn_dyhead_pretrain_obj365.py',
}
WIDTH = 16
WORDS = 'disc', 'square', 'cross'


def write_bert(folder: Any, words: Sequence[str] = WORDS, positions: int = 64) -> str:
    """Write the config, the vocabulary and random weights of a BERT with one layer.

    Args:
        folder (Path): The new folder.
        words (Sequence[str]): Words that are one token. Other words are split into letters.
        positions (int): Length of the longest text in tokens.
    """
    import torch
    from transformers import BertConfig, BertModel
    letters = [*string.ascii_lowercase, *string.digits]
    vocabulary = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', '?', '-', *words, *letters,
                  *(f'##{one}' for one in letters)]
    folder.mkdir()
    (folder / 'vocab.txt').write_text('\n'.join(vocabulary))
    (folder / 'tokenizer_config.json').write_text(json.dumps(
        dict(tokenizer_class='BertTokenizer', do_lower_case=True)))
    torch.manual_seed(5)
    BertModel(BertConfig(
        vocab_size=len(vocabulary), hidden_size=WIDTH, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=2 * WIDTH, max_position_embeddings=positions)).save_pretrained(folder)
    return str(folder)


def text_detector(kind: str, bert: str, width: int = 8, tokens: int = 32) -> dict:
    """Return a detector of :data:`ZOO` on a narrow ResNet, with one layer of each kind."""
    model = Config.fromfile(config_path(f'mmdet::{ZOO[kind]}')).model
    other = Config.fromfile(config_path(f'mmdet::{ZOO["grounding_dino"]}')).model
    model.backbone = other.backbone
    model.backbone.update(depth=18, base_channels=width, frozen_stages=-1, norm_eval=False,
                          norm_cfg=dict(type='BN'), init_cfg=None)
    model.neck.in_channels = [width * 2**i for i in (1, 2, 3)]
    model.language_model.update(name=bert, max_tokens=tokens)
    if kind == 'glip':
        # The head has group norms of 16 groups, which need two values each at a map of 1x1.
        model.neck.out_channels = 32
        model.bbox_head.update(in_channels=32, feat_channels=32, num_dyhead_blocks=1,
                               lang_model_name=bert, early_fuse=False)
        model.test_cfg.update(score_thr=0., nms_pre=10000, max_per_img=100000,
                              nms=dict(type='nms', iou_threshold=1.))
    else:
        model.num_queries = 20
        model.encoder.update(num_layers=2)
        model.decoder.update(num_layers=2)
        model.bbox_head.contrastive_cfg.max_text_len = tokens
        model.test_cfg.max_per_img = 20
    return model.to_dict()
