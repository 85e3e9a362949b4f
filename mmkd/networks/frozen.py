"""The usual teacher: a trained model with frozen weights."""
import hashlib
import json
import os
from contextlib import nullcontext
from typing import Any, Dict, Optional, Sequence, Union

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from ..core.agreement import weights_of
from ..core.build import build_model
from ..core.errors import explained
from ..core.log import warn
from ..core.uninitialized import fill_unwritten, marked_memory
from ..files.checkpoint import Loaded, load_hashed
from ..files.classes import (
    classes_of_checkpoint,
    classes_of_config,
    shown_names,
    stated_mapping,
)
from ..files.fit import load_exactly
from ..files.labels import zero_label_of_checkpoint, zero_labels_of_config
from ..files.zoo import published_checkpoint, read_config_file
from ..points import family_of
from ..points.prompt import set_prompt
from ..registry import MODELS
from .fast import Fast
from .fixed import FixedTeacher
from .inputs import Renormalize
from .prompts import Prompts, asked_for, check_prompts, for_teaching, texts_of

LEFT_OUT = '<published>'
"""Default of ``checkpoint``: the address comes from the model index. None means random weights."""


@MODELS.register_module()
class FrozenTeacher(FixedTeacher):
    """A trained detector or segmentor, always in eval mode, with frozen weights.

    Args:
        config (str | dict | Config): Path of the teacher's config, a config of an installed package
            ('mmdet::retinanet/retinanet_r101_fpn_1x_coco.py'), or the config itself. In a
            distillation config, the teacher is its student.
        checkpoint (str | None): Path or URL of its weights. By default the URL comes from the model
            index of the package. An explicit None means random weights.
        trust_checkpoint (bool): Read the checkpoint as a pickle that may run code.
            Defaults to False.
        view (str, optional): See :class:`BaseTeacher`.
        precision (str, optional): 'bf16' or 'fp16'; see :class:`mmkd.networks.fast.Fast`. Defaults
            to None, the precision of the student.
        channels_last (bool): See :class:`mmkd.networks.fast.Fast`. Defaults to False.
        compile (bool): See :class:`mmkd.networks.fast.Fast`. Defaults to False.
        fuse (bool): See :class:`mmkd.networks.fast.Fast`. Defaults to False.
        classes (Sequence[str] | dict | str, optional): A list: names of the classes of its
            columns, in order; they override the names in checkpoint and config. A dict: for a class
            of the student the teacher's class, a list of its classes, whose probabilities add up,
            or None, for a class without teacher; other classes are matched by name. Or the path of
            a .json, .yaml or .py file with one of these. Defaults to None: the names in the
            checkpoint, or those of the training data in the config, all matched by name.
        channels (str, optional): 'repeat': the student's images have one channel, and it is
            repeated for each channel of the teacher, normalised by the teacher's means. Defaults to
            None: the numbers of channels are equal.
        prompts (Sequence[str] | dict[str, str], optional): For detectors with a text prompt (GLIP,
            Grounding DINO): the text for each class, in order, or by class. Defaults to None: the
            names of the classes. Their classes are those of the student, or those of ``classes``.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``precision`` or ``channels`` is unknown, or ``classes`` contains a name
            twice.

    Example:
        >>> teacher = FrozenTeacher('mmdet::retinanet/retinanet_r101_fpn_1x_coco.py', fuse=True)
    """

    def __init__(self,
                 config: Union[str, dict, Config],
                 checkpoint: Optional[str] = LEFT_OUT,
                 trust_checkpoint: bool = False,
                 view: Optional[str] = None,
                 precision: Optional[str] = None,
                 channels_last: bool = False,
                 compile: bool = False,
                 fuse: bool = False,
                 classes: Union[Sequence[str], Dict[str, Any], str, None] = None,
                 channels: Optional[str] = None,
                 prompts: Prompts = None) -> None:
        super().__init__(view, Fast(precision, channels_last, compile, fuse))
        if not (channels is None or (isinstance(channels, str) and channels == 'repeat')):
            raise ValueError("`teacher.channels` must be 'repeat' or None, but got "
                             f'{channels!r}; write one of these')
        self.channels = channels
        check_source(config, checkpoint, trust_checkpoint, 'teacher')
        self.classes, self.mapping = stated_mapping(classes, 'teacher.classes')
        self.states_classes = self.classes is not None
        check_prompts(prompts, 'teacher.prompts')
        self.prompts = prompts
        self.config = config
        self.checkpoint = checkpoint
        self.trust_checkpoint = trust_checkpoint
        self._provenance: Dict[str, Any] = {}

    def prepare(self, student: Any) -> None:
        """Build the teacher, load its weights, and check that both fit.

        Raises:
            FileNotFoundError: If config or checkpoint does not exist.
            ValueError: If the checkpoint is left out and not in an index, does not fit the config,
                or contains more than weights; or if the inputs cannot be re-normalised.
        """
        model = self.build()
        self.renormalize = Renormalize(student, model, 'teacher', self.channels)

    def build(self) -> Any:
        """Build the teacher and load its weights, without a student.

        Returns:
            nn.Module: The model, in eval mode and frozen.

        Raises:
            FileNotFoundError: If config or checkpoint does not exist.
            ValueError: If the checkpoint is left out and not in an index, does not fit the config,
                or contains more than weights.
        """
        config = read_config(self.config, 'teacher')
        loaded = Loaded({}, '', '')
        if self.checkpoint == LEFT_OUT:
            self.checkpoint = published_checkpoint(self.config)
        if self.checkpoint is not None:
            loaded = load_hashed(self.checkpoint, self.trust_checkpoint, 'teacher')
        checkpoint = loaded.checkpoint
        self._provenance = origin_of(config, loaded)
        self.identity = self._provenance['config_hash']

        # A config without a scope is read in the scope of the student.
        scope = config.get('default_scope')
        with marked_memory() if self.checkpoint is None else nullcontext():
            model: Any = build_model(for_teaching(model_config(config)), 'teacher', scope)
        family_of(model, 'teacher')  # raises an error if it has no points
        with DefaultScope.overwrite_default_scope(scope), explained(
                'the classes of the teacher cannot be read', 'check `dataset_meta` in its '
                                                             'checkpoint, and `train_dataloader` '
                                                             'in its config'):
            if not self.states_classes:
                self.classes = classes_of_checkpoint(checkpoint) or classes_of_config(config)
            self.zero_labels = (zero_label_of_checkpoint(checkpoint) or
                                zero_labels_of_config(config))
        if self.checkpoint is None:
            fill_unwritten(model)
            print_log('The teacher has random weights: it is built without a checkpoint', 'current')
            self._provenance['random_weights'] = weights_of(model)[:16]
        else:
            load_exactly(model, checkpoint, self.checkpoint)
            print_log(f'The teacher has its weights, {len(model.state_dict())} tensors, from '
                      f'{self.checkpoint}', 'current')
        self.model = model.eval().requires_grad_(False)
        if self.states_classes and family_of(model).kind != 'text':  # a text is no name of a column
            warn_of_other_names(self.classes or (), checkpoint, config)
        return self.model

    def set_student_classes(self, classes: Optional[Sequence[str]]) -> None:
        """Ask a detector with a text prompt for these classes.

        Raises:
            ValueError: If ``prompts`` does not fit the classes, or the teacher has no text prompt.
        """
        assert self.model is not None, 'prepare() comes first'
        if family_of(self.model, 'teacher').kind != 'text':
            if self.prompts is not None:
                raise ValueError('`teacher.prompts` is for detectors with a text prompt, but the '
                                 f'teacher is a {type(self.model).__name__}; leave it out')
            return
        names = asked_for(classes, self.classes if self.states_classes else None, self.mapping)
        self.classes = names or None
        if names:
            texts = texts_of(names, self.prompts, 'teacher.prompts')
            set_prompt(self.model, texts)
            self._provenance['prompts'] = texts
            self.identity = f'{self._provenance["config_hash"]}, {texts}'

    def provenance(self) -> Dict[str, Any]:
        """Names and SHA-256 of config and checkpoint at the time of building; for random weights,
        the beginning of their SHA-256."""
        mapped = {} if self.mapping is None else dict(classes=self.mapping.shown())
        return dict(super().provenance(), **self._provenance, **mapped)


def hash_of_config(config: Config) -> str:
    """SHA-256 of the model in a config, independent of its file."""
    text = json.dumps(config.model, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def origin_of(config: Config, loaded: Loaded) -> Dict[str, str]:
    """Names and SHA-256 of the config and the weights of a network.

    Args:
        config (Config): The config.
        loaded (Loaded): The weights, with name and hash of their file, '' without a file.
    """
    return dict(config=os.path.basename(str(config.filename or '')),
                config_hash=hash_of_config(config),
                checkpoint=loaded.name, checkpoint_hash=loaded.digest)


def check_source(config: Any, checkpoint: Any, trust_checkpoint: Any, what: str) -> None:
    """Check the arguments that identify a network.

    Raises:
        TypeError: If an argument is of the wrong type.
    """
    if not isinstance(config, (str, dict, Config)):
        raise TypeError(f'`{what}.config` must be a path or a config, but got '
                        f"{type(config).__name__}; write for instance config='teacher.py'")
    if not (checkpoint is None or isinstance(checkpoint, str)):
        raise TypeError(f'`{what}.checkpoint` must be a path, an address or None, but got '
                        f"{checkpoint!r}; write for instance checkpoint='teacher.pth'")
    if not isinstance(trust_checkpoint, bool):
        raise TypeError(f'`{what}.trust_checkpoint` must be True or False, but got '
                        f'{trust_checkpoint!r}; write one of the two')


def read_config(source: Union[str, dict, Config], what: str) -> Config:
    """The complete config of a network.

    Args:
        source (str | dict | Config): Path, package::path, or the config itself.
        what (str): Role of the network, for messages: 'teacher'.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If it cannot be read, or has no ``model``.
    """
    if isinstance(source, str):
        shown = f'`{source}`'
        config = read_config_file(source, what)
    else:
        shown = f'`{what}.config`'
        with explained(f'{shown} cannot be read', 'write a path, or dict(model=...)'):
            config = source if isinstance(source, Config) else Config(source)
    if not isinstance(config.get('model'), dict):
        hint = ('; this may be the model itself, write dict(model=...)'
                if 'type' in config else '; use the config of a whole run, or dict(model=...)')
        raise ValueError(f'{shown} must contain a `model`, but its keys are '
                         f'{list(config.keys())}{hint}')
    return config


def model_config(config: Config) -> ConfigDict:
    """The model of a complete config, with the preprocessor of the config.

    Raises:
        TypeError: If it is a distillation config, and its student is not a model.
    """
    model = config.model
    if 'student' in model:  # a distillation config: its student is the teacher
        model = model.student
        if not isinstance(model, dict):
            raise TypeError('`student` of a distillation config must be the config of a model, but '
                            f'got {model!r}; use a config whose `student` is a dict')
    if 'data_preprocessor' in config:  # the model's own has priority, as in MMEngine's Runner
        model = ConfigDict({'data_preprocessor': config.data_preprocessor, **model})
    return model


def warn_of_other_names(stated: Sequence[str], checkpoint: Dict[str, Any], config: Config) -> None:
    """Warn if the names that a config states for the columns of a teacher replace others."""
    try:
        found = classes_of_checkpoint(checkpoint) or classes_of_config(config)
    except Exception:  # names that cannot be read are a reason to state others
        return
    if found and list(found) != list(stated):
        warn(f'`teacher.classes` names the columns of the teacher {shown_names(stated)}, but its '
             f'checkpoint or config names them {shown_names(found)}; the former are used. If they '
             'are not meant to replace them, leave `classes` out')
