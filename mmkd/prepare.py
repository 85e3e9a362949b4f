"""How does a module learn through a frozen teacher, before a student is distilled?"""
import json
import os
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Optional, Union

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor, nn

from .compare.prepared import identity_of
from .core.build import build_entry, named_arguments
from .core.errors import explained
from .core.names import shown_names
from .core.prepared_file import write_prepared
from .core.processes import world_size
from .core.rng import preserved_rng
from .core.runner import current_runner, is_training
from .files.classes import classes_of_run
from .files.labels import check_meaning, zero_labels_of_run
from .hooks.prepare import PrepareHook
from .losses.prepared import PreparedModule
from .networks import FrozenTeacher
from .points import Point, family_of, find_point
from .points.probe import on_blank
from .points.recorder import Records, recording
from .points.replaced import Replacement
from .registry import MODELS
from .version import __version__


@MODELS.register_module()
class Prepare(BaseModel):
    """A model that trains one module per level of a point of a teacher, and nothing else.

    The modules replace the teacher's features at the point, and learn from the teacher's own loss
    on labels, and from losses of their own. The teacher is frozen, and its layers are in eval mode.
    It is no submodule, so neither optimizer nor checkpoint contains it. At the end of training the
    modules are written to a file, which a loss of a second stage takes, see
    :class:`mmkd.losses.PreparedLoss`. Settings by which a frozen teacher runs faster are not
    applied.

    .. code-block:: python

        _base_ = ['mmdet::retinanet/retinanet_r101_fpn_2x_coco.py']
        model = dict(
            _delete_=True, type='mmkd.Prepare', on='neck',
            teacher=dict(config='mmdet::retinanet/retinanet_r101_fpn_2x_coco.py'),
            module=dict(type='mmkd.MaskTokens', tokens=6))

    The rest of the config is that of the teacher, or another one with the same classes: the images
    are normalised as the teacher's. Predictions, in validation and test, are those of the teacher
    with replaced features: they show what the modules keep.

    Args:
        teacher (dict | FrozenTeacher): The teacher, such as ``dict(config=..., checkpoint=...)``.
        module (dict): Type and arguments of the module, a :class:`mmkd.losses.PreparedModule`.
        on (str): The point of the teacher: 'neck', 'cls', or a dotted path. Defaults to 'neck'.
        file (str, optional): The file that is written at the end of training. Defaults to None,
            prepared.pth in the work dir.
        data_preprocessor (dict, optional): Ignored; MMEngine's Runner passes that of a config. The
            teacher's own is used.

    Attributes:
        levels (nn.ModuleList): The modules.

    Raises:
        TypeError: If an argument is of the wrong type.
        FileNotFoundError: If config or checkpoint of the teacher does not exist.
        ValueError: If the teacher has no such point, or its values cannot be replaced.

    Example:
        >>> Prepare(teacher=dict(config='teacher.py'), module=dict(type='mmkd.MaskTokens'), on=3)
        Traceback (most recent call last):
        TypeError: `on` must be a point of the teacher, such as 'neck', but got 3; write one
    """

    @named_arguments
    def __init__(self, teacher: Union[dict, FrozenTeacher], module: dict, on: str = 'neck',
                 file: Optional[str] = None, data_preprocessor: Optional[dict] = None) -> None:
        if not isinstance(on, str):
            raise TypeError(f"`on` must be a point of the teacher, such as 'neck', but got {on!r}; "
                            'write one')
        if not (file is None or isinstance(file, str)):
            raise TypeError(f'`file` must be the path of a file, but got {file!r}; write one, or '
                            'leave it out')
        frozen: FrozenTeacher = teacher if isinstance(teacher, FrozenTeacher) else build_entry(
            teacher, MODELS, '`teacher`', FrozenTeacher, 'mmkd.FrozenTeacher', is_merged=True)
        entry = dict(module) if isinstance(module, dict) else module
        with preserved_rng():
            model = frozen.build()
            build_entry(entry, MODELS, '`module`', PreparedModule, is_merged=True)
        super().__init__(data_preprocessor=model.data_preprocessor)
        self.teacher, self.file = frozen, file
        self.point = find_point(model, on, 'teacher')
        with preserved_rng():
            self._replacement = _replacement(model, self.point)
        channels = [level.shape[1] for level in self._replacement.levels]
        self._replacement.levels.clear()
        self.levels = nn.ModuleList()
        for count in channels:
            level = build_entry(entry, MODELS, '`module`', PreparedModule, is_merged=True)
            level.setup(count)
            self.levels.append(level)
        kind = type(self.levels[0])
        self.about: Dict[str, Any] = dict(
            type=kind.__name__, on=on, paths=list(self.point.paths), channels=channels,
            arguments=_plain({key: value for key, value in entry.items()
                              if key not in ('type', '_scope_')}),
            teacher=identity_of(frozen), is_logits=self.point.num_classes is not None,
            mmkd=__version__)
        count = sum(one.numel() for one in self.levels.parameters())
        print_log(f'{kind.__name__} is trained at `{on}` of the teacher '
                  f'({", ".join(self.point.paths)}), {len(channels)} levels of channels '
                  f'{channels}, {count} parameters', 'current')

    @property
    def loss_prefix(self) -> str:
        """Begin of the names of the modules' own losses."""
        return f'loss_{self.point.name.replace(".", "_")}'

    def forward(self, inputs: Tensor, data_samples: Optional[list] = None,
                mode: str = 'tensor') -> Any:
        """Forward of the teacher with replaced features.

        Args:
            inputs (Tensor): Float (N, C, H, W), normalised.
            data_samples (list, optional): The N samples.
            mode (str): 'loss', 'predict' or 'tensor'. Defaults to 'tensor'.

        Returns:
            dict | list | tuple | Tensor: The return value of the teacher; with 'loss', the dict
            has the losses of the modules, too.
        """
        model = self.teacher.model
        assert model is not None
        own: Dict[str, List[Tensor]] = {}
        with self._replacement.replacing(model, lambda number, level: self._at(
                number, level, own)), _heads_in_training(model, mode == 'loss'):
            found = model(inputs, data_samples, mode=mode)
        if mode != 'loss':
            return found
        losses = dict(found, **{f'{self.loss_prefix}_{name}': values
                                for name, values in own.items()})
        if world_size() > 1:  # a distributed wrapper waits for a gradient of every parameter
            losses[f'{self.loss_prefix}_anchor'] = torch.stack(
                [one.sum() for one in self.levels.parameters()]).sum() * 0
        return losses

    def _at(self, number: int, level: Tensor, own: Dict[str, List[Tensor]]) -> Tensor:
        """The new value of a level; losses of its module are added to a dict."""
        with torch.autocast(level.device.type, enabled=False):
            new, parts = self.levels[number](
                level.to(torch.promote_types(level.dtype, torch.float32)))
        for name, value in parts.items():
            own.setdefault(name, []).append(value)
        return new.to(level.dtype)  # type: ignore[no-any-return]

    def init_weights(self) -> None:
        """Check that the labels are the teacher's, and register the hook that writes the file.

        MMEngine's Runner calls this before the first batch of a training run.

        Raises:
            ValueError: If the data has other classes than the teacher.
        """
        runner = current_runner()
        if runner is None or not is_training(runner):
            return
        classes, known = classes_of_run(), self.teacher.classes
        if classes and known and list(classes) != list(known):
            raise ValueError(
                f'the teacher has the classes {shown_names(known)}, but the training data '
                f'{shown_names(classes)}; its loss needs labels of its own classes: train on data '
                'with the same classes in the same order')
        check_meaning((classes, False, zero_labels_of_run()),
                      (known, self.teacher.states_classes, self.teacher.zero_labels))
        if not any(isinstance(hook, PrepareHook) for hook in runner.hooks):
            runner.register_hook(PrepareHook(self))

    def write(self, folder: str, iterations: int) -> str:
        """Write the file of the modules.

        Args:
            folder (str): Where it is written if the config names no ``file``.
            iterations (int): How long they were trained.

        Returns:
            str: Path of the file.

        Raises:
            ValueError: If a value is infinite or NaN.
        """
        path = self.file or os.path.join(folder, 'prepared.pth')
        write_prepared(path, dict(self.about, iterations=iterations),
                       [level.state_dict() for level in self.levels])
        return path

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> 'Prepare':
        super()._apply(fn, recurse)
        self.teacher._apply(fn)
        return self


@contextmanager
def _heads_in_training(model: nn.Module, is_loss: bool) -> Iterator[None]:
    """Context manager in which heads predict what their losses need.

    In eval mode, the head of RepPoints leaves out a prediction, and that of an FCOS with
    ``norm_on_bbox`` multiplies distances by the stride. Their layers, such as dropout, stay in eval
    mode.
    """
    heads = [module for module in model.modules()
             if is_loss and hasattr(module, 'loss_by_feat') and not module.training]
    for head in heads:
        head.training = True
    try:
        yield
    finally:
        for head in heads:
            head.training = False


def _plain(arguments: Dict[str, Any]) -> Dict[str, Any]:
    """Arguments as they can be read from a file of weights: numbers, strings, lists and dicts.

    Raises:
        TypeError: If there are others.
    """
    try:
        return json.loads(json.dumps(arguments))  # type: ignore[no-any-return]
    except TypeError as error:
        raise TypeError('arguments of `module` must be numbers, strings, lists or dicts, because '
                        f'they are written to its file, but {error}; write them so') from error


def _replacement(model: Any, point: Point) -> Replacement:
    """Find the levels of a point on a blank image, and check that they are maps."""
    family = family_of(model, 'teacher')

    def look(image: Tensor) -> Records:
        # Twice, because a value that is changed in place afterwards is known after the first time.
        for _ in range(2):
            with torch.no_grad(), recording(model, point.watched) as records:
                family.predict(model, family.extract(model, image), point.watched)
        return records

    if point.asked_at or point.queries is not None:
        raise ValueError(f'`{point.name}` of the teacher predicts for '
                         f'{"RoIs" if point.asked_at else "queries"}, not on a map of the image; '
                         "choose 'neck' or 'backbone'")
    with explained('the teacher does not run on a blank image', 'check its config'):
        records = on_blank(model, look)
    found = Replacement(point, records)
    odd = [tuple(level.shape) for level in found.levels if level.dim() != 4]
    if odd or not found.levels:
        raise ValueError(f'`{point.name}` of the teacher has no maps (N, C, H, W), but '
                         f"{odd or 'nothing'}; choose 'neck' or 'backbone'")
    return found

