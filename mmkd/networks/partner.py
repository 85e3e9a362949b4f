"""A network that is trained with the student: a partner, a booster, a branch."""
from typing import Any, Dict, Iterable, List, Optional, Sequence, Set, Union

from mmengine.config import Config
from mmengine.model import convert_sync_batchnorm
from torch import Tensor, nn

from ..core.arguments import finite_number
from ..core.build import build_model
from ..core.errors import explained
from ..files.checkpoint import Loaded, load_hashed
from ..files.classes import classes_of_checkpoint
from ..files.fit import load_exactly, misfit
from ..points import Answers, family_of
from ..registry import MODELS
from .frozen import check_source, model_config, origin_of, read_config
from .inputs import Renormalize
from .live import LiveNetwork
from .observing import Question
from .sharing import share


@MODELS.register_module()
class Partner(LiveNetwork):
    """A network that is trained on the same batch, in the same step, by losses of its own.

    Thirteen of its methods are those of every network that is trained, so it has more than 15.

    It is listed in ``companions`` of a :class:`mmkd.Distiller`, and can be teacher or learner by
    its name, as in ``on=dict(student='cls', teacher='partner:cls')``. It is trained by the
    student's optimizer, and saved under 'mmkd', separately from the student's weights.

    The parts in ``shared`` are modules of the student, computed once per batch: a booster
    (`Rocket Launching <https://arxiv.org/abs/1708.04106>`_, section 3) shares the lowest layers, a
    shallow branch (`Be Your Own Teacher <https://arxiv.org/abs/1905.08094>`_, section 3) shares
    the backbone and has only its own head. Gradients of its losses reach shared parts. As a teacher
    its outputs are constants, so that its learners do not change it (the gradient block of Rocket
    Launching).

    Args:
        config (str | dict | Config): Path of its config, or ``dict(model=...)``.
        checkpoint (str, optional): Initial weights. Defaults to None, the initialization of its
            config.
        shared (Sequence[str]): Dotted paths of modules that are shared with the student. Modules
            that run before the last of them inside the same parent are shared, too.
            Defaults to ().
        separate_norm (bool): Whether normalization layers of shared parts are not shared. The
            convolutions are shared, and modules after a norm are computed twice.
            Defaults to False.
        loss_weight (float): Factor of its own losses. Defaults to 1.0.
        view (str, optional): Name of its view in :class:`mmkd.PackViews`. Defaults to None, the
            images of the student.
        trust_checkpoint (bool): Read the checkpoint as a pickle that may run code.
            Defaults to False.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If both ``shared`` and ``view`` are given: another input cannot be shared.

    Example:
        >>> Partner('other_student.py', shared=['backbone'], loss_weight=0.5).shared
        ['backbone']
    """

    def __init__(self,
                 config: Union[str, dict, Config],
                 checkpoint: Optional[str] = None,
                 shared: Sequence[str] = (),
                 separate_norm: bool = False,
                 loss_weight: float = 1.0,
                 view: Optional[str] = None,
                 trust_checkpoint: bool = False) -> None:
        super().__init__(view)
        check_source(config, checkpoint, trust_checkpoint, 'partner')
        if not isinstance(shared, (list, tuple)) or not all(
                isinstance(path, str) for path in shared):
            raise TypeError(f'`shared` must be a list of dotted paths, but got {shared!r}; write '
                            "for instance shared=['backbone']")
        if not isinstance(separate_norm, bool):
            raise TypeError(f'`separate_norm` must be True or False, but got {separate_norm!r}; '
                            'write one of the two')
        if separate_norm and not shared:
            raise ValueError('`separate_norm=True` needs `shared` modules, but there are none; '
                             'write them in `shared`, or leave it out')
        if shared and view is not None:
            raise ValueError('`shared` modules are computed once, for one view of the images; '
                             f'leave out `shared` or `view={view!r}`')
        self.config = config
        self.checkpoint = checkpoint
        self.shared = list(shared)
        self.separate_norm = separate_norm
        self.loss_weight = finite_number('loss_weight', loss_weight, least=0)
        self.trust_checkpoint = trust_checkpoint
        self._shared_modules: List[nn.Module] = []
        self._provenance: Dict[str, str] = {}

    def prepare(self, student: Any) -> None:
        """Build and initialise it, and replace the shared modules by those of the student.

        Raises:
            FileNotFoundError: If config or checkpoint does not exist.
            ValueError: If a shared module does not exist on both sides, or differs between them.
        """
        config = read_config(self.config, 'partner')
        model: Any = build_model(model_config(config), 'partner', config.get('default_scope'))
        family_of(model, 'partner')
        with explained('the partner cannot be initialised', 'check `init_cfg` in its config'):
            model.init_weights()
        loaded = Loaded({}, '', '')
        if self.checkpoint is not None:
            loaded = load_hashed(self.checkpoint, self.trust_checkpoint, 'partner')
            load_exactly(model, loaded.checkpoint, self.checkpoint)
            with explained('the classes of the partner cannot be read',
                           'check `dataset_meta` in its checkpoint'):
                self.classes = classes_of_checkpoint(loaded.checkpoint)
        self._provenance = origin_of(config, loaded)
        # `sync_bn` of the config was applied to the student before the partner existed.
        for package in {type(one).__module__.split('.')[0] for one in student.modules()
                        if type(one).__name__ == 'SyncBatchNorm'}:
            model = convert_sync_batchnorm(model, package)
        self.renormalize = Renormalize(student, model, 'partner')
        # Before modules are shared, so that `train` freezes only its own parts.
        self.model = model.train()
        if self.shared:
            self._shared_modules = share(self.model, student, self.shared, self.separate_norm)

    def provenance(self) -> Dict[str, Any]:
        """Names and SHA-256 of config and checkpoint at the time of building, and its settings."""
        return dict(super().provenance(), **self._provenance, shared=list(self.shared),
                    separate_norm=self.separate_norm, loss_weight=self.loss_weight)

    @property
    def is_kept(self) -> bool:
        """Whether it is a complete model, which may be exported after training."""
        return not self.shared

    def own_parameters(self) -> List[nn.Parameter]:
        """Trained parameters, without the shared ones."""
        assert self.model is not None
        shared = {id(p) for module in self._shared_modules for p in module.parameters()}
        return [p for p in self.model.parameters() if p.requires_grad and id(p) not in shared]

    def learn_from(self, inputs: Tensor, data_samples: Optional[list],
                   paths: Iterable[str]) -> Dict[str, Any]:
        """Its own losses, weighted; see :meth:`LiveNetwork.learn`.

        Args:
            inputs (Tensor): Float (N, C, H, W), normalised for the student.
            data_samples (list, optional): The N samples.
            paths (Iterable[str]): Paths of the modules to record.
        """
        assert self.model is not None
        losses = self.learn(self.model.forward, self.renormalize(inputs, data_samples),
                            data_samples, paths)
        return {name: _weighted(value, self.loss_weight) if 'loss' in name else value
                for name, value in losses.items()}

    def observe(self, inputs: Tensor, data_samples: Optional[Sequence],
             questions: Dict[str, Question]) -> Dict[str, Answers]:
        return super().observe(self.renormalize(inputs, data_samples), data_samples, questions)

    # --- modules shared with the student --------------------------------------------------------

    @property
    def shared_modules(self) -> List[nn.Module]:
        """The modules that it shares with the student."""
        return self._shared_modules

    # --- state ----------------------------------------------------------------------------------

    def state_dict(self) -> Dict[str, Tensor]:
        assert self.model is not None
        shared = self._shared_tensors()
        return {key: value for key, value in self.model.state_dict(keep_vars=True).items()
                if id(value) not in shared}

    def load_state_dict(self, state: Dict[str, Tensor]) -> None:
        assert self.model is not None
        own = self.state_dict()
        differ = sorted(own.keys() ^ state.keys()) or [
            key for key, value in own.items() if not isinstance(state[key], Tensor)
            or misfit(state[key], value)]
        if differ:
            raise ValueError(f'the checkpoint contains another partner: {len(differ)} tensors '
                             f'differ in name or shape, such as `{differ[0]}`; resume with the '
                             'config it was trained with')
        self.model.load_state_dict(state, strict=False)

    def _shared_tensors(self) -> Set[int]:
        return {id(value) for module in self._shared_modules
                for value in module.state_dict(keep_vars=True).values()}


def _weighted(value: Any, weight: float) -> Any:
    return [one * weight for one in value] if isinstance(value, (list, tuple)) else value * weight
