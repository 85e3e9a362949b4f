"""A model family: how mmkd reads a third-party detector whose head it does not know.

    custom_imports = dict(imports=['mmkd', 'blob_detector', 'blob_family'],
                          allow_failed_imports=False)
    distill=[dict(type='mmkd.KDLoss', on='heat'), dict(type='mmkd.MSELoss', on='backbone')]
"""
from blob_detector import BlobDetector

from mmkd import FAMILIES, ModelFamily, Point, tensors_of


@FAMILIES.register_module()
class BlobFamily(ModelFamily):
    """Provides the points 'heat' (logits of the heat map) and 'backbone'."""

    family = 'BlobDetector'

    @staticmethod
    def fits(model):
        return isinstance(model, BlobDetector)

    @staticmethod
    def points(model):
        columns = model.num_classes
        return dict(heat=Point('heat', ('heat', ), tensors_of, use_sigmoid=True,
                               num_classes=columns, num_named=columns, is_map=True))

    @staticmethod
    def predict(model, features, paths, at=None, data_samples=None):
        if 'heat' in paths:
            model.heat(features)
