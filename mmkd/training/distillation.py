"""What one training step adds: networks learn, teachers look, matches compare."""
import logging
from contextlib import ExitStack
from functools import partial
from itertools import permutations
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple, Union

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from ..compare.committee import CommitteeMatch
from ..compare.match import Match, warn_of_unknown_names
from ..compare.pair_queries import NotFinite
from ..core.arguments import finite_number
from ..core.build import build_entry
from ..core.names import shown_names
from ..core.rng import preserved_rng
from ..core.runner import current_optim_wrapper
from ..files.classes import classes_of_config, classes_of_run, stated_classes
from ..files.history import record_of
from ..files.labels import check_meaning, zero_labels_of_config, zero_labels_of_run
from ..networks import BaseTeacher, Committee, Itself, LiveNetwork, Partner, Question
from ..networks.inputs import view_of
from ..networks.partner import computed_once
from ..points import Answers, adapter_of, points_of
from ..points.image_sizes import Size, TrainedAt, sizes_of_model, trained_at
from ..points.probe import DoesNotRun, blank_image, first_look, size_explained
from ..points.recorder import Records, evaluating, recording
from ..registry import MODELS
from .beside import share_gradients
from .targets import hard_targets_mixed
from .watch import LIMIT, Sides, TermWatch, guard_clipping, without_losses

Told = Dict[str, Dict[Tuple[str, str], Answers]]
"""What each teacher said, by who asked and where."""


class Distillation:
    """Networks and what is compared between them, for one student.

    Both ways into training use it: :class:`mmkd.Distiller`, a model, and
    :class:`mmkd.DistillHook`.

    Args:
        student (nn.Module): The student.
        teacher (dict | BaseTeacher, optional): See :class:`mmkd.Distiller`.
        distill (Sequence[dict]): See :class:`mmkd.Distiller`.
        classes (Sequence[str], optional): See :class:`mmkd.Distiller`. Defaults to None.
        companions (dict[str, dict | BaseTeacher], optional): See :class:`mmkd.Distiller`.
        nonfinite_limit (int): See :class:`mmkd.Distiller`. Defaults to 10.
        config (Config, optional): The student's whole config, which tells the names and labels of
            its classes and the size of its images in training. Defaults to None, that of the
            running Runner.

    Attributes:
        networks (dict[str, BaseTeacher]): Every network that can teach, by name; the members of a
            committee as 'teacher.0', 'teacher.1', ...
        matches (list[Match]): What is compared, one for each entry of ``distill``.

    Raises:
        TypeError: If an argument is not of the kind above.
        ValueError: If ``distill`` is empty, a point does not exist in the student, or two entries
            have one name.
    """

    def __init__(self, student: nn.Module, teacher: Union[dict, BaseTeacher, None],
                 distill: Sequence[dict], classes: Optional[Sequence[str]] = None,
                 companions: Optional[Dict[str, Any]] = None,
                 nonfinite_limit: int = LIMIT, config: Optional[Config] = None) -> None:
        self.student = student
        self._config = config
        self._image_size: Optional[Size] = None
        self._tried_at: Optional[Size] = None
        self._order: List[str] = []
        self._runs_on: Dict[str, Size] = {}
        self.watch = TermWatch(nonfinite_limit)
        self._classes = stated_classes(classes, 'classes')
        built = {} if teacher is None else {'teacher': build_network(
            teacher, '`teacher`', 'mmkd.FrozenTeacher')}
        for name, one in check_names(companions).items():
            built[name] = build_network(one, f'companion `{name}`', 'mmkd.Partner')
        self.itself = Itself(student)
        self.networks: Dict[str, BaseTeacher] = {'student': self.itself}
        for name, network in built.items():
            members = network.members if isinstance(network, Committee) else []
            self.networks.update({f'{name}.{i}': one for i, one in enumerate(members)} or
                                 {name: network})
        if not isinstance(distill, (list, tuple)) or not all(
                isinstance(entry, dict) for entry in distill):
            raise TypeError('`distill` is a list of dicts, for instance '
                            f"[dict(type='mmkd.DISTLoss', on='cls')], but got {distill!r:.200}; "
                            'write it so')
        if not distill:
            raise ValueError('`distill` is empty, so nothing would be compared; add an entry, for '
                             "instance dict(type='mmkd.DISTLoss', on='cls')")
        for entry in distill:
            if not all(isinstance(name, str) for name in entry):
                raise TypeError('an entry of `distill` must have names as keys, for instance '
                                f"dict(type='mmkd.DISTLoss', on='cls'), but got {entry!r:.200}; "
                                'write it so')
        self.matches: List[Match] = [
            self._match(entry, built) for whole in distill for entry in expanded(whole)]
        self._check_use(built)
        names = [match.name for match in self.matches]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f'two entries of `distill` are called `{name}`, but each needs a '
                                 'name of its own in the log; give one of them a `name=`')
        for match in self.parts:
            if match.learner == 'student':
                match.find_on_student(student)
        self.is_prepared = self._is_shared = False

    def _match(self, entry: Dict[str, Any], built: Dict[str, BaseTeacher]) -> Match:
        match = Match(**entry)
        known = {'student': self.itself, **built}
        learners = [name for name, one in known.items() if isinstance(one, LiveNetwork)]
        for side, name, names in (('teacher', match.source, list(known)),
                                  ('student', match.learner, learners)):
            if name not in names:
                give = ('give a `teacher`' if name == 'teacher' and name not in known else
                        f'write one of them before the point, for instance `{names[0]}:cls`')
                raise ValueError(
                    f'`{match.name}` compares a point of `{name}` as {side}, but ' +
                    ('there is no such network' if name not in known else
                     'it is not trained') +
                    f'; there {"is" if len(names) == 1 else "are"} '
                    f'{", ".join(f"`{one}`" for one in names)}; {give}')
        if (match.learner, match.on_student) == (match.source, match.on_teacher) and (
                match.stage is None):
            raise ValueError(f'`{match.name}` compares `{match.on_student}` of `{match.learner}` '
                             'with itself, from which there is nothing to learn; name another '
                             'point or network')
        source = known[match.source]
        return CommitteeMatch(entry, source) if isinstance(source, Committee) else match

    def _check_use(self, built: Dict[str, BaseTeacher]) -> None:
        """Whatever stands in the config has its part, and no target is given away twice."""
        used = {name for match in self.matches for name in (match.learner, match.source)}
        idle = [name for name in built if name not in used]
        if idle:
            raise ValueError(
                f'`{idle[0]}` neither teaches nor learns: no entry of `distill` names it; compare '
                f"one of its points, for instance on=dict(student='cls', teacher='{idle[0]}:cls'), "
                'or leave it out')
        mixed = [(match.learner, match.on_student) for match in self.matches
                 if match.alpha is not None]
        for learner, point in mixed:
            if mixed.count((learner, point)) > 1:
                raise ValueError(
                    f'two entries of `distill` have an `alpha` at `{point}` of `{learner}`, and '
                    "their shares of the labels' loss would be multiplied; write `alpha` in one, "
                    'or give the student one `mmkd.Committee`')

    @property
    def parts(self) -> List[Match]:
        """What asks the networks: of a match with a committee, one for each member."""
        return [part for match in self.matches for part in match.parts]

    @property
    def teacher(self) -> BaseTeacher:
        """Who teaches: 'teacher', or the first of the networks that stand in its place.

        Raises:
            ValueError: If there is no network but the student.
        """
        for name, network in self.networks.items():
            if name != 'student':
                return network
        raise ValueError('there is no teacher beside the student')

    @property
    def partners(self) -> Dict[str, Partner]:
        """The networks that are trained beside the student, by name."""
        return self._in_order({name: network for name, network in self.networks.items()
                               if isinstance(network, Partner)})

    def keep_order(self, state: Dict[str, Any]) -> None:
        """Have what is trained beside the student join the optimizer as it did before.

        The state of an optimizer goes by number, so entries of ``distill`` in another order would
        exchange the momentum of connectors of equal shapes.

        Args:
            state (dict): What :meth:`state_dict` gave then.
        """
        self._order = [name for kind in ('connectors', 'networks') for name in state.get(kind, ())]

    def _in_order(self, named: Dict[str, Any]) -> Dict[str, Any]:
        return {name: named[name] for name in [*self._order, *named] if name in named}

    # --- before the first batch -----------------------------------------------------------------

    def prepare(self, inputs: Optional[Tensor] = None) -> None:
        """Build the networks, check that they fit the student, and make what connects them.

        What is compared is logged. The second call does nothing. The random numbers of the run
        stay as they are.

        Args:
            inputs (Tensor, optional): The first batch, (N, C, H, W), where there is one already.
                Defaults to None: the config tells the size of the images.

        Raises:
            FileNotFoundError: If a config or checkpoint does not exist.
            ValueError: If teacher and student cannot be compared as the config asks; the message
                says what was found and what to do.
        """
        if self.is_prepared:
            return
        if inputs is not None:
            self._image_size = inputs.shape[2], inputs.shape[3]
        parameter = next(self.student.parameters())
        with preserved_rng():
            for network in self.networks.values():
                if not network.is_prepared:  # a copy of the student shares those that are
                    network.prepare(self.student)
                    network.is_prepared = True
                assert network.model is not None
                if network is not self.itself:
                    network.model.to(parameter.device, parameter.dtype)
            try:
                self.match_points()
            except ValueError as error:
                comparable = self._comparable()
                if comparable is None:
                    raise
                raise ValueError(f'{error}. Of this pair can be compared: '
                                 f'{comparable or "no point"}') from error
        for part in self.parts:
            print_log(str(part), 'current')
        for match in self.matches:
            if isinstance(match, CommitteeMatch) and match.explain_average():
                print_log(match.explain_average(), 'current', logging.WARNING)
        warn_of_unknown_names(bool(self.classes), self.parts)
        self.is_prepared = True

    def match_points(self) -> None:
        """Find the points on networks that are prepared, and try them with a blank image.

        Raises:
            ValueError: If they cannot be compared as the config asks.
        """
        self.classes = self._classes or classes_of_run()
        zero_labels = zero_labels_of_run()
        if self._config is not None:
            with DefaultScope.overwrite_default_scope(self._config.get('default_scope')):
                self.classes = self.classes or classes_of_config(self._config)
                zero_labels = zero_labels or zero_labels_of_config(self._config)
        for match in self.parts:
            teacher = self.networks[match.source]
            assert teacher.model is not None
            classes = teacher.classes
            if isinstance(teacher, LiveNetwork) and self.classes and classes is not None and (
                    classes != self.classes):
                raise ValueError(
                    f'the checkpoint of `{match.source}` was trained on the classes '
                    f'{shown_names(classes)}, but it will learn from labels of '
                    f'{shown_names(self.classes)}; give one of the same classes')
            if match.learner != 'student':
                match.find_on_student(self._model(match.learner))
            stated = [side for side, is_stated in (
                ('student', self._classes), ('teacher', teacher.states_classes)) if is_stated]
            match.find_on_teacher(teacher.model, self.classes, classes, teacher.shares_classes,
                                  stated)
            if match.names_classes and not teacher.shares_classes:
                check_meaning((self.classes, bool(self._classes), zero_labels),
                              (classes, teacher.states_classes, teacher.zero_labels), match.source)
        self._fit()

    def trials(self) -> Iterator[Tuple[str, Union[Match, Exception]]]:
        """Every named point of either side, tried alone on the prepared teacher.

        Yields:
            tuple[str, Match | Exception]: The point; what compares it, or why nothing can.
        """
        assert self.teacher.model is not None
        for name in {**points_of(self.student, 'student'),
                     **points_of(self.teacher.model, 'teacher')}:
            # Which loss it is does not matter; this one takes logits and features alike.
            entry = dict(type='mmkd.MSELoss', on=name)
            try:
                trial = Distillation(self.student, self.teacher, [entry], self._classes,
                                     config=self._config)
                trial._image_size = self._image_size
                trial.match_points()
                yield name, trial.matches[0]
            except Exception as error:  # a point that cannot run cannot be compared
                yield name, error

    def _comparable(self) -> Optional[str]:
        """What can be compared of a pair, to be said beside an error; None if it is no pair."""
        if len(self.networks) != 2:  # several teachers, or none but the student itself
            return None
        return ', '.join(f'`{name}`' + (' through a connector' if match.connectors else '')
                         for name, match in self.trials() if isinstance(match, Match))

    def _fit(self) -> None:
        """Let all sides see a blank image, and make the connectors."""
        made_for = {name: sizes_of_model(self._model(name)) for name in dict.fromkeys(
            [*(match.learner for match in self.parts), *(match.source for match in self.parts)])}
        trained = trained_at(self.student, self._config) if self._image_size is None else \
            TrainedAt(self._image_size)
        (seen, told), size, self._runs_on = first_look(
            self._look_at_blank, self._is_ambiguous, made_for, trained)
        self._tried_at = size
        for match in self.parts:
            match.fit(seen[match.learner], told_to(match, told), size)

    def _look_at_blank(self, size: Size) -> Tuple[Dict[str, Records], Told]:
        """What all networks say of a blank image.

        Raises:
            DoesNotRun: If one of them cannot process it.
        """
        seen: Dict[str, Records] = {}
        told: Told = {}
        side = 'student'
        try:
            for side in dict.fromkeys(match.learner for match in self.parts):
                with torch.no_grad(), evaluating(self._model(side)):
                    seen[side] = self.predicted(side, blank_image(self._model(side), size))
            blank = blank_image(self.student, size)
            for side, questions in self._questions(seen, self.parts).items():
                told[side] = self._told_by(side, blank, None, questions)
        except Exception as error:
            raise DoesNotRun(side, size, error) from error
        return seen, told

    def _is_ambiguous(self, look: Tuple[Dict[str, Records], Told]) -> bool:
        seen, told = look
        return any(match.is_ambiguous(seen[match.learner], told_to(match, told))
                   for match in self.parts)

    def predicted(self, learner: str, inputs: Tensor) -> Records:
        """What a learner says at the points of a batch, without losses.

        Args:
            learner (str): Its name.
            inputs (Tensor): Float (N, C, H, W), normalised.
        """
        model, paths = self._model(learner), watched(self.parts, learner)
        adapter = adapter_of(model)
        with recording(model, paths) as seen:
            adapter.predict(model, adapter.extract(model, inputs), paths, adapter.made_up(inputs))
        return seen

    def begin(self) -> None:
        """Tell every network that the student has the weights that it begins with."""
        device = next(self.student.parameters()).device
        for network in self.networks.values():
            # FSDP moves parameters one by one, so that who is no module does not hear of it.
            if network.model is not None and next(network.model.parameters()).device != device:
                network._apply(lambda tensor: tensor.to(device))
            network.begin()

    # --- every step -----------------------------------------------------------------------------

    @torch.compiler.disable  # what is recorded comes and goes with every step
    def losses(self, forward: Callable[..., Dict[str, Any]], inputs: Tensor,
               data_samples: Optional[list]) -> Dict[str, Any]:
        """The student's losses, the partners', and the distillation's.

        Args:
            forward (Callable): The student's own forward.
            inputs (Tensor): Float (N, C, H, W), normalised.
            data_samples (list, optional): The N samples.

        Returns:
            dict: The student's losses under their own names, the partners' under 'name.loss', then
            those of the matches.
        """
        self.prepare(inputs)
        if not self._is_shared:  # only now all have met, on the devices where they train
            self._is_shared = True
            share_gradients(self.trained_beside)
            if self.trained_beside:
                guard_clipping(current_optim_wrapper(), partial(self.watch.check_gradients,
                                                                self._beside_by_name()))
        matches = [match for match in self.matches if match.share and all(
            self.networks[part.source].is_ready for part in match.parts)]
        parts = [part for match in matches for part in match.parts]
        live: Dict[str, LiveNetwork] = {'student': self.itself, **self.partners}
        try:
            # Before the learners hold the activations of a whole step: it takes less memory.
            early, late = self._by_turn(parts)
            told = self.ask({}, inputs, data_samples, early)
            losses, own, background = self._learn(live, matches, forward, inputs, data_samples)
            seen = {name: one.seen for name, one in live.items() if one.seen is not None}
            told.update(self.ask(seen, inputs, data_samples, late))
            terms = {match.name: self._compared(match, seen, told, data_samples, background)
                     for match in matches}
            terms = self.watch.check(
                terms, partial(self._sides, seen, told), own,
                {match.name: match.learner for match in matches})
            for name, its in own.items():
                losses.update(without_losses(its) if name in self.watch.spoilt else its)
            for match in self.matches:
                if match.name in losses:
                    raise ValueError(f'the student has a loss `{match.name}` of its own; give the '
                                     'entry of `distill` another `name=`')
                if match.is_scheduled:  # no 'loss' in the name: shown, and not added up
                    losses[match.name.replace('loss', 'factor')] = inputs.new_tensor(match.factor)
                # Where nobody runs for it, it is shown all the same.
                losses[match.name] = terms.get(match.name, [inputs.new_zeros(())])
        finally:  # what was seen holds the activations of a whole step
            for one in live.values():
                one.forget()
        return losses

    def _by_turn(self, parts: Sequence[Match]) -> Tuple[List[Match], List[Match]]:
        """Matches whose teacher can be asked at once, and those that wait for what learners say."""
        waiting = {part.source for part in parts if part.student_point.asked_at or isinstance(
            self.networks[part.source], LiveNetwork)}
        return ([part for part in parts if part.source not in waiting],
                [part for part in parts if part.source in waiting])

    def _compared(self, match: Match, seen: Dict[str, Records], told: Told,
                  data_samples: Optional[Sequence],
                  background: Dict[str, List[Tensor]]) -> List[Tensor]:
        model = self._model(match.learner)
        try:
            return match.compare_parts(
                seen[match.learner], [told_to(part, told) for part in match.parts], model,
                data_samples, background.get(match.name, ()))
        except NotFinite:  # there is nothing to compare; who watches decides
            return [next(model.parameters()).new_full((), float('nan'))]

    def _sides(self, seen: Dict[str, Records], told: Told, name: str) -> Sides:
        """What a match compares, for a diagnosis; of a committee, with its first member."""
        part = next(match for match in self.matches if match.name == name).parts[0]
        with torch.no_grad():
            return Sides(*part.levels(seen[part.learner], told_to(part, told), is_paired=False))

    def _learn(self, live: Dict[str, LiveNetwork], matches: Sequence[Match],
               forward: Callable[..., Dict[str, Any]], inputs: Tensor,
               data_samples: Optional[list]) -> Tuple[
                   Dict[str, Any], Dict[str, Dict[str, Any]], Dict[str, List[Tensor]]]:
        """The student's own losses, those of each partner by its name, and which labels are
        background where matches ask for it."""
        parts = [part for match in matches for part in match.parts]
        losses: Dict[str, Any] = {}
        own: Dict[str, Dict[str, Any]] = {}
        background: Dict[str, List[Tensor]] = {}
        with computed_once(module for one in self.partners.values()
                           for module in one.shared_modules):
            for name, network in live.items():
                with ExitStack() as stack:
                    for match in matches:
                        if match.alpha is not None and match.learner == name:
                            background[match.name] = stack.enter_context(hard_targets_mixed(
                                self._model(name), match.parts[0].student_point, match.share,
                                match.replaces, self.classes))
                    if isinstance(network, Partner):
                        its = network.learn_from(self._inputs(network, inputs, data_samples),
                                                 data_samples, watched(parts, name))
                        own[name] = {f'{name}.{key}': value for key, value in its.items()}
                    else:
                        losses.update(network.learn(forward, inputs, data_samples,
                                                    watched(parts, name)))
        return losses, own, background

    def ask(self, seen: Dict[str, Records], inputs: Tensor, data_samples: Optional[Sequence],
            matches: Sequence[Match]) -> Told:
        """Ask every network what matches want to know of it.

        Args:
            seen (dict[str, Records]): What was recorded of each learner; {} where it does not
                matter where they predict.
            inputs (Tensor): Float (N, C, H, W), normalised for the student.
            data_samples (Sequence, optional): The N samples.
            matches (Sequence[Match]): Those that are compared.
        """
        told: Told = {}
        for name, questions in self._questions(seen, matches).items():
            with size_explained(name, inputs, self._runs_on.get(name)):
                told[name] = self._told_by(name, inputs, data_samples, questions)
        return told

    def _questions(self, seen: Dict[str, Records], matches: Sequence[Match]
                   ) -> Dict[str, Dict[Tuple[str, str], Question]]:
        """What matches want to know, by the network that is asked."""
        questions: Dict[str, Dict[Tuple[str, str], Question]] = {}
        for match in matches:
            places = match.student_point.places(seen.get(match.learner, {}))
            of_source = questions.setdefault(match.source, {})
            for at, point in match.asked:
                if at and at not in places:  # a cascade stops where nothing is proposed
                    continue
                key = key_of(match, at)
                before = of_source[key].points if key in of_source else ()
                of_source[key] = Question((*before, point), places.get(at))
        return questions

    def _told_by(self, name: str, inputs: Tensor, data_samples: Optional[Sequence],
                 questions: Dict[Tuple[str, str], Question]
                 ) -> Dict[Tuple[str, str], Answers]:
        network = self.networks[name]
        return network.look(  # type: ignore[return-value]
            self._inputs(network, inputs, data_samples), data_samples,
            questions)  # type: ignore[arg-type]

    def after_iter(self, iteration: int) -> None:
        """Tell every network that a step is over; ``iteration`` counts from 1."""
        for network in self.networks.values():
            network.after_iter(iteration)

    def after_epoch(self, epoch: int) -> None:
        """Tell every network that an epoch is over; ``epoch`` counts from 1."""
        for network in self.networks.values():
            network.after_epoch(epoch)

    def _model(self, name: str) -> nn.Module:
        model = self.networks[name].model
        assert model is not None
        return model

    def _inputs(self, network: BaseTeacher, inputs: Tensor,
                data_samples: Optional[Sequence]) -> Tensor:
        if network.view is None or data_samples is None:
            return inputs
        return view_of(network.view, inputs, data_samples,
                       self.student.data_preprocessor)  # type: ignore[arg-type]

    def provenance(self) -> Dict[str, Any]:
        """How the student's weights come about: who taught it, what was compared, which versions.

        Returns:
            dict: Words and numbers; lists of what is compared and of the networks but the student.
        """
        return record_of(self)

    # --- what is trained and saved beside the student -------------------------------------------

    @property
    def connectors(self) -> Dict[str, nn.ModuleList]:
        """Connectors by the name of their loss, as they join the optimizer; known after
        :meth:`prepare`."""
        return self._in_order({match.name: match.connectors for match in self.parts
                               if match.connectors})

    @property
    def parameters(self) -> List[nn.Parameter]:
        """What connectors have to learn."""
        return [p for connectors in self.connectors.values() for p in connectors.parameters()]

    @property
    def trained_beside(self) -> List[nn.Parameter]:
        """All that is trained and is not the student's: connectors' and partners'."""
        return [*self.parameters, *(p for one in self.partners.values()
                                    for p in one.own_parameters())]

    def _beside_by_name(self) -> Dict[str, List[nn.Parameter]]:
        return {**{name: list(one.parameters()) for name, one in self.connectors.items()},
                **{name: one.own_parameters() for name, one in self.partners.items()}}

    def state_dict(self) -> Dict[str, Any]:
        """What a checkpoint must hold beside the student, on the CPU; {} if nothing."""
        connectors = {name: on_cpu(one.state_dict()) for name, one in self.connectors.items()}
        networks = {name: on_cpu(network.state_dict())
                    for name, network in self._in_order(self.networks).items()}
        networks = {name: state for name, state in networks.items() if state}
        return {**(dict(connectors=connectors) if connectors else {}),
                **(dict(networks=networks) if networks else {})}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is that of another distillation.
        """
        saved, own = state.get('connectors', {}), self.connectors
        shapes = [{f'{name}.{key}': tuple(value.shape)
                   for name, connectors in one.items() for key, value in connectors.items()}
                  for one in (saved, self.state_dict().get('connectors', {}))]
        if shapes[0] != shapes[1]:
            differ = [{key: shape for key, shape in one.items() if other.get(key) != shape}
                      for one, other in (shapes, shapes[::-1])]
            raise ValueError(
                'the checkpoint has other connectors than the config asks for; in the checkpoint '
                f'alone: {differ[0] or "none"}, in the config alone: {differ[1] or "none"}; resume '
                'with the `distill` that it was trained with, or start from its weights with '
                '`load_from` and without `resume`')
        networks = state.get('networks', {})
        names = [sorted(networks), sorted(self.state_dict().get('networks', {}))]
        if names[0] != names[1]:
            raise ValueError(
                f'the checkpoint holds the networks {names[0]} beside the student, the config '
                f'asks for {names[1]}; resume with the `teacher` and `companions` that it was '
                'trained with, or start from its weights with `load_from` and without `resume`')
        for name, connectors in own.items():
            connectors.load_state_dict(saved[name])
        for name, one in networks.items():
            self.networks[name].load_state_dict(one)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        for network in self.networks.values():
            network._apply(fn)
        for connectors in self.connectors.values():
            connectors._apply(fn)


def build_network(entry: Union[dict, BaseTeacher], what: str, default_type: str) -> BaseTeacher:
    """Build a teacher or companion from its entry in the config."""
    if isinstance(entry, BaseTeacher):
        return entry
    if isinstance(entry, (list, tuple)):
        raise TypeError(f'{what} must be a dict, but got {len(entry)} in a list; write several '
                        "teachers as dict(type='mmkd.Committee', members=[...])")
    network: BaseTeacher = build_entry(entry, MODELS, what, BaseTeacher, default_type,
                                       is_merged=True)
    return network


def check_names(companions: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """The companions, if they have names that points can be written with.

    Raises:
        TypeError: If they are no dict.
        ValueError: If a name is taken or cannot be one.
    """
    if companions is None:
        return {}
    if not isinstance(companions, dict):
        raise TypeError('`companions` must be a dict of networks by name, for instance '
                        f"dict(partner=dict(type='mmkd.Partner', ...)), but got {companions!r:.200}"
                        '; give each a name')
    for name in companions:
        if not isinstance(name, str) or not name.isidentifier() or (
                name in ('student', 'teacher') or 'loss' in name):
            raise ValueError(f"a companion is called {name!r}; its name must be a word of its own, "
                             "not 'student' or 'teacher', and without 'loss', by which MMEngine "
                             "tells what to add up; write another name, such as 'partner'")
    return companions


def expanded(entry: Dict[str, Any]) -> List[Dict[str, Any]]:
    """The entries that one with ``between`` stands for: every network learns from every other.

    `Deep Mutual Learning <https://arxiv.org/abs/1706.00384>`_, equation 7: the terms of K networks
    are divided by K - 1.

    Raises:
        TypeError: If ``between`` or ``on`` is not of the right kind.
        ValueError: If there are not two networks or more.
    """
    if 'between' not in entry:
        return [entry]
    entry = dict(entry)
    names, on = entry.pop('between'), entry.get('on')
    if not isinstance(names, (list, tuple)) or len(names) < 2 or not all(
            isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ValueError("`between` must be two networks or more, each named once, for instance "
                         f"['student', 'partner'], but got {names!r}; name them so")
    if not isinstance(on, str) or ':' in on or 'name' in entry:
        raise TypeError("`between` needs one point of all networks, such as on='cls', and no "
                        f'`name`, but got {entry!r}; write it so, and a name in no entry of it')
    weight = finite_number('loss_weight', entry.pop('loss_weight', 1.)) / (len(names) - 1)
    return [dict(entry, on=dict(student=f'{one}:{on}', teacher=f'{other}:{on}'),
                 loss_weight=weight) for one, other in permutations(names, 2)]


def watched(matches: Sequence[Match], name: str) -> Set[str]:
    """Modules of a network in training that must be watched, as learner and as teacher."""
    paths: Set[str] = set()
    for match in matches:
        if match.learner == name:
            paths |= match.student_paths
        if match.source == name:
            paths.update(path for at, point in match.asked if not at for path in point.watched)
    return paths


def key_of(match: Match, at: str) -> Tuple[str, str]:
    """Under which key a match asks: learners share what does not depend on their places."""
    return (match.learner if at else '', at)


def told_to(match: Match, told: Told) -> Dict[str, Answers]:
    """The answers to a match's questions, by where they were asked."""
    answers = told.get(match.source, {})
    return {at: answers[key_of(match, at)] for at, _ in match.asked if key_of(match, at) in answers}


def on_cpu(state: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """Tensors by name, apart from those that go on being trained."""
    return {key: value.detach().cpu().clone() for key, value in state.items()}
