"""The beginning of a script that exports a published student in a process without mmkd."""

WITHOUT_MMKD = """
import sys
sys.modules['mmkd'] = None  # an import of it fails
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint

config = Config.fromfile('model.py')
with DefaultScope.overwrite_default_scope(config.default_scope):
    model = MODELS.build(config.model).eval()
# MMEngine calls torch.load without weights_only, which torch 2.6 and later reads as True.
load_checkpoint(model, sys.argv[1], map_location='cpu', strict=True)

class Raw(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        out = self.model(image, mode='tensor')
        return tuple(one for level in out for one in level) if isinstance(out, tuple) else out

raw = Raw(model)
"""
"""Builds the model of model.py with the weights of the first argument; ``raw(image)`` returns its
outputs as one tuple."""

END = """
assert not any(name.startswith('mmkd.') for name in sys.modules)
"""
