"""The usual teacher: a trained model that stays as it is."""
from typing import Any, Dict, List, Optional, Sequence, Union

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import DefaultScope
from torch import Tensor

from ..checkpoint import load_exactly, read_checkpoint
from ..classes import classes_of_checkpoint, classes_of_config
from ..inputs import Renormalize
from ..registry import MODELS
from ..zoo import config_path, published_checkpoint
from .base import BaseTeacher

FROM_INDEX = 'index'
"""The default of ``checkpoint``: look it up, which None must not mean."""


@MODELS.register_module()
class FrozenTeacher(BaseTeacher):
    """A trained detector or segmentor: always in eval mode, never changed.

    Args:
        config (str | dict | Config): Path of the teacher's config, a config of an installed package
            ('mmdet::retinanet/retinanet_r101_fpn_1x_coco.py'), or the config itself. Of a
            distillation config, the student is the teacher.
        checkpoint (str | None): Path or address of its weights. Left out, the address comes from
            the package's model index. None, written out, means a teacher with random weights.
        trust_checkpoint (bool): Read the checkpoint as a pickle that may run code.
            Defaults to False.

    Raises:
        TypeError: If ``config`` is neither path nor config.
    """

    def __init__(self,
                 config: Union[str, dict, Config],
                 checkpoint: Optional[str] = FROM_INDEX,
                 trust_checkpoint: bool = False) -> None:
        super().__init__()
        if not isinstance(config, (str, dict, Config)):
            raise TypeError('`teacher.config` must be a path or a config, but got '
                            f'{type(config).__name__}')
        self.config = config
        self.checkpoint = checkpoint
        self.trust_checkpoint = trust_checkpoint

    def prepare(self, student: Any) -> None:
        """Build the teacher, load its weights, and check that both fit.

        Raises:
            FileNotFoundError: If config or checkpoint is not where it should be.
            ValueError: If the checkpoint is left out and no index knows it, does not fit the
                config, or holds more than weights; if the inputs cannot be re-normalised.
        """
        config = self._read_config()
        checkpoint: Dict[str, Any] = {}
        if self.checkpoint == FROM_INDEX:
            self.checkpoint = published_checkpoint(self.config)
        if self.checkpoint is not None:
            checkpoint = read_checkpoint(self.checkpoint, self.trust_checkpoint)

        with DefaultScope.overwrite_default_scope(config.get('default_scope', 'mmengine')):
            model = MMENGINE_MODELS.build(_model_config(config))
            self.classes = classes_of_checkpoint(checkpoint) or classes_of_config(config)
        if self.checkpoint is None:
            print_log('The teacher has random weights, as `checkpoint=None` asks', 'current')
        else:
            load_exactly(model, checkpoint, self.checkpoint)
        self.renormalize = Renormalize(student.data_preprocessor, model.data_preprocessor)
        self.model = model.eval().requires_grad_(False)

    def look(self, inputs: Tensor, data_samples: Optional[Sequence],
             paths: Sequence[str]) -> Dict[str, List[Any]]:
        return super().look(self.renormalize(inputs, data_samples), data_samples, paths)

    def _read_config(self) -> Config:
        if isinstance(self.config, str):
            return Config.fromfile(config_path(self.config))
        config = Config(self.config) if not isinstance(self.config, Config) else self.config
        if 'model' not in config:
            raise ValueError('`teacher.config` must hold a `model`, but its keys are '
                             f'{list(config.keys())}')
        return config


def _model_config(config: Config) -> dict:
    model = config.model
    if 'student' in model:  # a distillation config: what it trained is the teacher now
        model = model.student
    if 'data_preprocessor' in config:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    return model
