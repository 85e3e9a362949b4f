"""What can a trial of tools/sweep.py be, and how is its config written?"""
import os
from inspect import signature
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.runner import IterBasedTrainLoop
from written import write_kept

from mmkd.compare.spec import TermSpec
from mmkd.compare.term import Term
from mmkd.core.build import parameters_of
from mmkd.inspection import Pair, entries_of, settings_of
from mmkd.losses.recommended import order_of
from mmkd.training.probe import attempt
from mmkd.worth.images import INNER, innermost
from mmkd.written_config import config_text

ALONE = 'student'
"""Name of the method of a trial without distillation."""
REPLAY = 'mmkd.Replay'
DEFAULT_INTERVAL = signature(IterBasedTrainLoop).parameters['val_interval'].default
"""Iterations between two validations, if the config does not say it."""


class Setting(NamedTuple):
    """What a trial trains, but for the seed."""
    method: str
    weight: float = 1.
    """Factor of the ``loss_weight`` of all entries."""
    tau: Optional[float] = None
    """Factor of the ``tau`` of all entries that have one; None if no entry has."""

    def shown(self) -> str:
        """In words.

        Example:
            >>> Setting('kd', 0.5, 2.).shown(), Setting(ALONE).shown()
            ('kd, weight x 0.5, tau x 2', 'student alone')
        """
        if self.method == ALONE:
            return 'student alone'
        return f'{self.method}, weight x {self.weight:.3g}' + (
            '' if self.tau is None else f', tau x {self.tau:.3g}')


class Space(NamedTuple):
    """The settings of one method."""
    method: str
    entries: List[Dict[str, Any]]
    around: Dict[str, Any] = {}
    is_cached: bool = True
    """Whether the teacher's outputs can be stored."""

    @staticmethod
    def of(method: str, pair: Pair) -> 'Space':
        """The space of a method for a pair.

        Raises:
            ValueError: If the method cannot be used.
        """
        if method == ALONE:
            return Space(ALONE, [])
        entries = entries_of(method, pair)
        return Space(method, entries, settings_of(method, pair), all(
            is_cacheable(attempt(pair.distillation, entry)) for entry in entries))

    def entries_for(self, setting: Setting) -> List[Dict[str, Any]]:
        """The entries of ``distill`` for a setting."""
        found = []
        for entry in self.entries:
            loss = loss_of(entry)
            own = dict(entry, loss_weight=float(f'{loss.loss_weight * setting.weight:.6g}'))
            tau = tau_of(loss)
            if tau is not None and setting.tau is not None:
                own['tau'] = float(f'{tau * setting.tau:.6g}')
            found.append(own)
        return found

    @property
    def has_tau(self) -> bool:
        """Whether an entry has a temperature."""
        return any(tau_of(loss_of(entry)) is not None for entry in self.entries)

    @property
    def points(self) -> Tuple[str, ...]:
        """Points of the teacher whose outputs are stored; methods with the same ones share them."""
        specs = [TermSpec.of(entry) for entry in self.entries]
        return tuple(sorted({name for one in specs for name in (one.on_teacher, *one.also)}))


def is_cacheable(term: Any) -> bool:
    """Whether the teacher's outputs for a term depend on the image alone, so that a
    :class:`mmkd.CachedTeacher` can store them: not on RoIs, queries or values of the student."""
    return (isinstance(term, Term) and term.spec.through is None and term.spec.queries is None and
            not any(at for at, _ in term.asked))


def loss_of(entry: Dict[str, Any]) -> Any:
    """The loss of an entry."""
    return TermSpec.of(entry).build_loss()


def tau_of(loss: Any) -> Optional[float]:
    """The temperature of a loss; None if it has none."""
    if 'tau' not in parameters_of(type(loss))[0]:
        return None
    tau: Optional[float] = loss.tau
    return tau


def spaces_of(methods: Optional[Sequence[str]], pair: Pair) -> Dict[str, Space]:
    """The spaces of the methods of a sweep, by name.

    Args:
        methods (Sequence[str], optional): The methods; :data:`ALONE` for the student alone. None
            stands for the student alone, and the methods of
            :func:`mmkd.losses.recommended.order_of` that can be used.
        pair (Pair): From :func:`mmkd.inspection.inspect_pair`.

    Raises:
        ValueError: If a given method cannot be used, or none can.
    """
    found = {}
    for name in dict.fromkeys(methods or [ALONE, *order_of(pair.kind)]):
        try:
            found[name] = Space.of(name, pair)
        except ValueError:
            if methods:
                raise
    if set(found) <= {ALONE}:
        raise ValueError('no method is left for the sweep; choose some by --methods that '
                         '`tools/inspect_pair.py STUDENT TEACHER --methods` lists')
    return found


def suggested(trial: Any, spaces: Dict[str, Space], seeds: Sequence[int],
              weights: Tuple[float, float], taus: Tuple[float, float]) -> Tuple[Setting, int]:
    """The setting and the seed of a trial of Optuna.

    The student alone has no method among the parameters, so that the search does not try it again;
    it is an attribute of the trial.
    """
    if trial.user_attrs.get(ALONE):
        return Setting(ALONE), trial.suggest_categorical('seed', list(seeds))
    method = trial.suggest_categorical('method', [name for name in spaces if name != ALONE])
    weight = trial.suggest_float(f'weight of {method}', *weights, log=True)
    tau = None
    if spaces[method].has_tau:
        tau = trial.suggest_float(f'factor of tau of {method}', *taus, log=True)
    # Last, so that a trial with a seed is complete, also if this process is killed here.
    return Setting(method, weight, tau), trial.suggest_categorical('seed', list(seeds))


def as_params(setting: Setting, seed: int) -> Dict[str, Any]:
    """The parameters of :func:`suggested` for a setting and a seed."""
    if setting.method == ALONE:
        return dict(seed=seed)
    found: Dict[str, Any] = dict(method=setting.method, seed=seed)
    found[f'weight of {setting.method}'] = setting.weight
    if setting.tau is not None:
        found[f'factor of tau of {setting.method}'] = setting.tau
    return found


def as_setting(params: Dict[str, Any]) -> Setting:
    """The setting of some parameters.

    Example:
        >>> as_setting(as_params(Setting('kd', 2., 4.), seed=1))
        Setting(method='kd', weight=2.0, tau=4.0)
    """
    method = params.get('method', ALONE)
    return Setting(method, params.get(f'weight of {method}', 1.),
                   params.get(f'factor of tau of {method}'))


def first_setting(space: Space) -> Setting:
    """The setting of the method's authors: all factors are 1."""
    return Setting(space.method, 1., 1. if space.has_tau else None)


# --- configs --------------------------------------------------------------------------------------


def prepare_student(config: Config, variants: int) -> Config:
    """A student's config for trials: it validates and saves after each epoch, or each
    ``val_interval`` iterations, and has ``variants`` of each image.

    Args:
        config (Config): The plain config.
        variants (int): See :class:`mmkd.Replay`; 0 for random augmentation without end.

    Raises:
        ValueError: If the pipeline cannot be repeated.
    """
    own = Config(config.to_dict())
    schedule = own.train_cfg
    is_by_epoch = 'max_iters' not in schedule  # which the loop by iterations requires
    if is_by_epoch:
        schedule.val_interval = 1
    schedule.setdefault('val_interval', DEFAULT_INTERVAL)
    hooks = own.get('default_hooks') or {}
    own.default_hooks = dict(hooks, checkpoint={
        'type': 'CheckpointHook', **(hooks.get('checkpoint') or {}), 'by_epoch': is_by_epoch,
        'interval': schedule.val_interval, 'max_keep_ckpts': 1})
    if variants:
        outer, dataset = own.train_dataloader.dataset, innermost(own.train_dataloader.dataset)
        if any(key in outer for key in INNER) and outer.get('pipeline'):
            raise ValueError(f'the training set is a {outer.get("type")} with a pipeline of its '
                             'own, so its images cannot be repeated for stored outputs of the '
                             'teacher; use --variants 0, to run the teacher in every trial')
        if not any(str(one.get('type')) == REPLAY for one in dataset.pipeline):
            dataset.pipeline = [dict(type=REPLAY, transforms=dataset.pipeline, variants=variants)]
    return own


def write_trial(folder: str, student: str, imports: Sequence[str], space: Space, setting: Setting,
                seed: int, teacher: str) -> str:
    """Write the config of a trial; its path.

    Args:
        folder (str): Folder of the trial.
        student (str): Path of the student's config.
        imports (Sequence[str]): Its ``custom_imports``.
        space (Space): The space of the method.
        setting (Setting): The setting.
        seed (int): The seed.
        teacher (str): The code of the ``teacher``.
    """
    path = os.path.join(folder, 'distill.py')
    text = (f'_base_ = [{student!r}]\n' if setting.method == ALONE else config_text(
        student, '', None, space.entries_for(setting), imports, space.around, setting.method,
        network=teacher))
    text += f'\nrandomness = dict(seed={seed})\n'
    write_kept(path, text, 'sweep.py', f'tools/train.py {path}', True)
    return path
