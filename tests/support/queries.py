"""Small query-based detectors of mmdet, and a batch for them."""
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmkd.files.zoo import config_path

ZOO = {
    'detr': 'detr/detr_r50_8xb2-150e_coco.py',
    'conditional': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
    'dab': 'dab_detr/dab-detr_r50_8xb2-50e_coco.py',
    'deformable': 'deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py',
    'dino': 'dino/dino-4scale_r50_8xb2-12e_coco.py',
    'ddq': 'ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py',
}


def detector(kind: str, queries: int = 6) -> dict:
    """Return a narrow detector of :data:`ZOO` for three classes."""
    config = Config.fromfile(config_path(f'mmdet::{ZOO[kind]}'))
    model = config.model
    model.backbone.update(depth=18, base_channels=8, init_cfg=None, frozen_stages=-1)
    model.backbone.norm_cfg = dict(type='BN')
    model.neck.in_channels = [8 * 2**i for i in model.backbone.out_indices]
    model.num_queries = queries
    model.encoder.num_layers = model.decoder.num_layers = 2
    model.bbox_head.num_classes = 3
    return model.to_dict()


def batch(size: int = 96) -> tuple:
    """Return two normalised images, and their samples with two objects each."""
    from mmdet.structures import DetDataSample
    torch.manual_seed(0)
    samples = []
    for _ in range(2):
        sample = DetDataSample(metainfo=dict(
            img_shape=(size, size), batch_input_shape=(size, size), ori_shape=(size, size),
            scale_factor=(1., 1.)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8., 8., 60., 56.], [30., 40., 90., 90.]]),
            labels=torch.tensor([0, 2]))
        samples.append(sample)
    return torch.randn(2, 3, size, size), samples
