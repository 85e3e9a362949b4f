"""Which networks and terms belong to one student, and what is kept of them?"""
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from ..compare.committee import CommitteeTerm, explain_average
from ..compare.term import Term
from ..compare.unknown_names import warn_of_unknown_names
from ..core.log import warn
from ..core.rng import preserved_rng
from ..core.runner import current_optim_wrapper
from ..files.classes import stated_classes
from ..files.history import record_of
from ..networks import BaseTeacher, Itself, Partner, Question
from ..networks.inputs import inputs_of
from ..points import Answers
from ..points.probe import size_explained
from ..points.recorder import Records
from .assembly import assemble
from .health import LIMIT, Health, guard_clipping
from .probe import Probe, naming_comparable
from .questions import Key, Told, questions_of
from .side_modules import SideModules, layers_of
from .step import Step


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
        terms (list[Term]): What is compared, one for each entry of ``distill``.
        side_modules (SideModules): What is trained or saved beside the student.
        iteration (int): Number of the iteration of the run, from 0.

    Raises:
        TypeError: If an argument is not of the kind above.
        ValueError: If ``distill`` is empty, a point does not exist in the student, or two entries
            have one name.
    """

    def __init__(self, student: nn.Module, teacher: Union[dict, BaseTeacher, None],
                 distill: Sequence[dict], classes: Optional[Sequence[str]] = None,
                 companions: Optional[Dict[str, Any]] = None,
                 nonfinite_limit: int = LIMIT, config: Optional[Config] = None) -> None:
        self.student, self.config = student, config
        self.health = Health(nonfinite_limit)
        self.stated_classes = stated_classes(classes, 'classes')
        self.classes: Optional[Sequence[str]] = self.stated_classes
        self.networks, self.terms = assemble(student, teacher, distill, companions)
        itself = self.networks['student']
        assert isinstance(itself, Itself)
        self.itself = itself
        for part in self.parts:
            if part.spec.learner == 'student':
                part.find(student)
        self.side_modules = SideModules(dict(networks={
            name: one for name, one in self.networks.items() if one is not itself}))
        self.probe = Probe(self)
        self.iteration = 0
        self.is_prepared = self._is_shared = False

    @property
    def parts(self) -> List[Term]:
        """What asks the networks: of a term with a committee, one for each member."""
        return [part for term in self.terms for part in term.parts]

    @property
    def teacher(self) -> BaseTeacher:
        """'teacher', or the first of the networks that stand in its place.

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
        return {name: one for name, one in self.side_modules.of('networks').items()
                if isinstance(one, Partner)}

    @property
    def trained_beside(self) -> List[nn.Parameter]:
        """All that is trained and is not the student's: of connectors, partners and losses."""
        return self.side_modules.parameters()

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
            self.probe.image_size = inputs.shape[2], inputs.shape[3]
        parameter = next(self.student.parameters())
        with preserved_rng():
            for network in self.networks.values():
                if not network.is_prepared:  # a copy of the student shares those that are
                    network.prepare(self.student)
                    network.is_prepared = True
                assert network.model is not None
                if network is not self.itself:
                    network.model.to(parameter.device, parameter.dtype)
            with naming_comparable(self):
                self.probe.run()
        self.side_modules.put('connectors', {
            part.name: part.connectors for part in self.parts if part.connectors})
        self.side_modules.put('losses', {
            part.name: part.losses for part in self.parts if part.loss.is_trained})
        for part in self.parts:
            print_log(str(part), 'current')
        for term in self.terms:
            if isinstance(term, CommitteeTerm) and explain_average(term):
                warn(explain_average(term))
        warn_of_unknown_names(bool(self.classes), self.parts)
        self.is_prepared = True

    def begin(self, iteration: int = 0) -> None:
        """Tell every network that the student has the weights that it begins with.

        Args:
            iteration (int): Iterations that are over. Defaults to 0.
        """
        self.iteration = iteration
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
            the terms.
        """
        self.prepare(inputs)
        self.health.begin()
        if not self._is_shared:  # only now all have met, on the devices where they train
            self._is_shared = True
            self.side_modules.start_from_rank_0()
            if self.trained_beside:
                beside = {**layers_of(self.side_modules), **{
                    name: one.own_parameters() for name, one in self.partners.items()}}
                term_of = {part.name: term.name for term in self.terms for part in term.parts}
                for name, parameters in beside.items():
                    self.health.guard({term_of.get(name, name): parameters})
                guard_clipping(current_optim_wrapper(),
                               partial(self.health.check_gradients, beside))
        return Step(self, inputs, data_samples).losses(forward)

    def ask(self, seen: Dict[str, Records], inputs: Tensor, data_samples: Optional[Sequence],
            terms: Sequence[Term], values: Mapping[str, Records] = {}) -> Told:
        """Ask every network what terms want to know of it.

        Args:
            seen (dict[str, Records]): What was recorded of each learner; {} where it does not
                matter where they predict.
            inputs (Tensor): Float (N, C, H, W), normalised for the student.
            data_samples (Sequence, optional): The N samples.
            terms (Sequence[Term]): Those that are compared.
            values (Mapping): See :func:`questions_of`. Defaults to none.
        """
        told: Told = {}
        for name, questions in questions_of(terms, seen, values).items():
            with size_explained(name, inputs, self.probe.runs_on.get(name)):
                told[name] = self.told_by(name, inputs, data_samples, questions)
        return told

    def told_by(self, name: str, inputs: Tensor, data_samples: Optional[Sequence],
                questions: Dict[Key, Question]) -> Dict[Key, Answers]:
        """What one network returns."""
        network = self.networks[name]
        return network.observe(  # type: ignore[return-value]
            inputs_of(network, self.student, inputs, data_samples), data_samples,
            questions)  # type: ignore[arg-type]

    def after_iter(self, iteration: int) -> None:
        """Tell every network that a step is over; ``iteration`` counts from 1."""
        self.iteration = iteration
        for network in self.networks.values():
            network.after_iter(iteration)

    def after_epoch(self, epoch: int) -> None:
        """Tell every network that an epoch is over; ``epoch`` counts from 1."""
        for network in self.networks.values():
            network.after_epoch(epoch)

    def model_of(self, name: str) -> nn.Module:
        """The model of a network that is prepared."""
        model = self.networks[name].model
        assert model is not None
        return model

    def provenance(self) -> Dict[str, Any]:
        """How the student's weights come about: who taught it, what was compared, which versions.

        Returns:
            dict: Words and numbers; lists of what is compared and of the networks but the student.
        """
        return record_of(self)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        self.itself._apply(fn)
        self.side_modules._apply(fn)
