"""Networks, terms and side modules of a student."""
from functools import partial
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from ..compare.committee import CommitteeTerm, explain_average
from ..compare.prepared import check_prepared
from ..compare.term import Term
from ..compare.unknown_names import warn_of_unknown_names
from ..core.log import warn
from ..core.rng import preserved_rng
from ..core.runner import current_optim_wrapper
from ..files.classes import stated_classes
from ..files.history import record_of
from ..networks import BaseTeacher, Itself, Partner, Question
from ..networks.inputs import inputs_of
from ..points import Answers, family_of
from ..points.probe import size_explained
from ..points.recorder import Records
from .assembly import assemble
from .auto_weights import weights_of
from .folds import check_folds
from .health import LIMIT, Health, guard_clipping
from .probe import Probe, naming_comparable
from .pseudo_labels import shown
from .questions import Key, Told, questions_of
from .share_meter import ShareMeter
from .side_modules import SideModules, layers_of
from .step import Step
from .streams import check_batches, check_streams, terms_for
from .unlabelled import Unlabelled
from .unlabelled_step import UnlabelledStep


class Distillation:
    """Networks and terms of a student.

    Both :class:`mmkd.Distiller` and :class:`mmkd.DistillHook` use it.

    Args:
        student (nn.Module): The student.
        teacher (dict | BaseTeacher, optional): See :class:`mmkd.Distiller`.
        distill (Sequence[dict]): See :class:`mmkd.Distiller`.
        classes (Sequence[str], optional): See :class:`mmkd.Distiller`. Defaults to None.
        companions (dict[str, dict | BaseTeacher], optional): See :class:`mmkd.Distiller`.
        nonfinite_limit (int): See :class:`mmkd.Distiller`. Defaults to 10.
        config (Config, optional): The complete config of the student, with the names and labels of
            its classes and the size of its images in training. Defaults to None, the config of the
            running Runner.
        unlabelled (str | dict, optional): See :class:`mmkd.Distiller`. Defaults to None.

    Attributes:
        networks (dict[str, BaseTeacher]): All networks that can teach, by name; members of a
            committee as 'teacher.0', 'teacher.1', ...
        terms (list[Term]): One term per entry of ``distill``.
        side_modules (SideModules): Modules that are trained or saved outside the student.
        batches (AsGiven): Reads images and samples from what the student is given.
        weights (dict[str, MeasuredWeight]): Weights that are measured, by name of the term.
        share_meter (ShareMeter): Measures the shares of the terms in the steps in which it is on.
        iteration (int): Number of the iteration of the run, from 0.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If ``distill`` is empty, a point does not exist in the student, or two entries
            have the same name.
    """

    def __init__(self, student: nn.Module, teacher: Union[dict, BaseTeacher, None],
                 distill: Sequence[dict], classes: Optional[Sequence[str]] = None,
                 companions: Optional[Dict[str, Any]] = None,
                 nonfinite_limit: int = LIMIT, config: Optional[Config] = None,
                 unlabelled: Union[str, dict, None] = None) -> None:
        self.student, self.config = student, config
        self.health = Health(nonfinite_limit)
        self.stated_classes = stated_classes(classes, 'classes')
        self.classes: Optional[Sequence[str]] = self.stated_classes
        self.networks, self.terms, self.pseudo_labels = assemble(student, teacher, distill,
                                                                 companions)
        self.unlabelled = None if unlabelled is None else Unlabelled(unlabelled)
        check_streams(self.terms, self.networks, self.pseudo_labels, unlabelled is not None)
        itself = self.networks['student']
        assert isinstance(itself, Itself)
        self.itself = itself
        for part in self.parts:
            if part.spec.learner == 'student':
                part.find(student)
        self.batches = family_of(student, 'student').batches
        check_batches(self.batches, student, self.unlabelled, self.pseudo_labels)
        self.side_modules = SideModules(dict(networks={
            name: one for name, one in self.networks.items() if one is not itself}))
        self.weights = weights_of(self.terms)
        self.side_modules.put('weights', self.weights)
        self.share_meter = ShareMeter()
        self.probe = Probe(self)
        self.iteration = 0
        self.is_prepared = self._is_shared = False

    @property
    def parts(self) -> List[Term]:
        """Terms with one teacher each: a term with a committee has one per member."""
        return [part for term in self.terms for part in term.parts]

    @property
    def teacher(self) -> BaseTeacher:
        """The network 'teacher', or the first companion if there is no teacher.

        Raises:
            ValueError: If there is no network except the student.
        """
        for name, network in self.networks.items():
            if name != 'student':
                return network
        raise ValueError('there is no teacher beside the student')

    @property
    def partners(self) -> Dict[str, Partner]:
        """The networks that are trained with the student, by name."""
        return {name: one for name, one in self.side_modules.of('networks').items()
                if isinstance(one, Partner)}

    @property
    def trained_beside(self) -> List[nn.Parameter]:
        """Trained parameters outside the student: of connectors, partners and losses."""
        return self.side_modules.parameters()

    # --- before the first batch -----------------------------------------------------------------

    def prepare(self, inputs: Optional[Tensor] = None) -> None:
        """Build the networks, check that they fit the student, and create connectors and layers.

        The terms are logged. A second call does nothing. The random number generators of the run
        are not changed.

        Args:
            inputs (Tensor, optional): The first batch, (N, C, H, W), if it is available. Defaults
                to None: the size of the images is taken from the config.

        Raises:
            FileNotFoundError: If a config or checkpoint does not exist.
            ValueError: If teacher and student cannot be compared as configured; the message has the
                cause and the remedy.
        """
        if self.is_prepared:
            return
        if inputs is not None:
            self.probe.image_size = inputs.shape[2], inputs.shape[3]
        parameter = next(self.student.parameters())
        with preserved_rng():
            for network in self.networks.values():
                if not network.is_prepared:  # a copy of the student shares prepared networks
                    network.prepare(self.student)
                    network.is_prepared = True
                assert network.model is not None
                if network is not self.itself:
                    network.model.to(parameter.device, parameter.dtype)
            check_folds(self)
            with naming_comparable(self):
                self.probe.run()
            if self.unlabelled is not None:
                self.unlabelled.prepare(self.student)
            if self.pseudo_labels is not None:
                assert self.probe.tried_at is not None
                self.pseudo_labels.prepare(self.networks[self.pseudo_labels.teacher], self.student,
                                           self.classes, self.probe.tried_at)
                print_log(shown(self.pseudo_labels), 'current')
        for part in self.parts:
            check_prepared(part, self.networks[part.spec.source])
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
        """Notify every network that the student has its initial weights.

        Args:
            iteration (int): Number of finished iterations. Defaults to 0.
        """
        self.iteration = iteration
        device = next(self.student.parameters()).device
        for network in self.networks.values():
            # FSDP moves the parameters directly, without a call of `Module.to`.
            if network.model is not None and next(network.model.parameters()).device != device:
                network._apply(lambda tensor: tensor.to(device))
            network.begin()

    # --- every step -----------------------------------------------------------------------------

    @torch.compiler.disable  # records exist only during a step
    def losses(self, forward: Callable[..., Dict[str, Any]], inputs: Any,
               data_samples: Any) -> Dict[str, Any]:
        """Compute the losses of the student, of the partners and of the terms.

        Args:
            forward (Callable): The student's own forward.
            inputs (Any): What the student is given, usually float (N, C, H, W), normalised.
            data_samples (Any): The N samples, or what the student is given instead.

        Returns:
            dict: The student's losses under their own names, the partners' losses under
            'name.loss', and the terms; losses on unlabelled images under 'unlabelled.'.
        """
        given, inputs = inputs, self.batches.images(inputs)
        if inputs is not given:  # the student is given more than images
            whole = forward

            def forward(_: Tensor, *args: Any, **kwargs: Any) -> Dict[str, Any]:
                return whole(given, *args, **kwargs)

        self.prepare(inputs)
        self.health.begin()
        if not self._is_shared:  # all networks are now on their devices
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
        found = Step(self, inputs, data_samples, terms_for(
            'labelled', self.terms, self.networks)).losses(forward)
        if self.unlabelled is not None and self.student.training:
            found.update(UnlabelledStep(self).losses(forward))
        return found

    def ask(self, seen: Dict[str, Records], inputs: Any, data_samples: Any,
            terms: Sequence[Term], values: Mapping[str, Records] = {},
            sets: Mapping[str, Tensor] = {}) -> Told:
        """Run every network for the questions of the terms.

        Args:
            seen (dict[str, Records]): Records of each learner; {} if no question needs the places
                of a learner.
            inputs (Any): What the student is given, usually float (N, C, H, W), normalised.
            data_samples (Any): The N samples, or what the student is given instead.
            terms (Sequence[Term]): The terms.
            values (Mapping): See :func:`questions_of`. Defaults to {}.
            sets (Mapping): See :func:`questions_of`. Defaults to {}.
        """
        told: Told = {}
        inputs = self.batches.images(inputs)
        data_samples = self.batches.samples(inputs, data_samples)
        for name, questions in questions_of(terms, seen, values, sets).items():
            with size_explained(name, inputs, self.probe.runs_on.get(name)):
                told[name] = self.told_by(name, inputs, data_samples, questions)
        return told

    def told_by(self, name: str, inputs: Tensor, data_samples: Optional[Sequence],
                questions: Dict[Key, Question]) -> Dict[Key, Answers]:
        """Run one network for its questions."""
        network = self.networks[name]
        return network.observe(  # type: ignore[return-value]
            inputs_of(network, self.student, inputs, data_samples), data_samples,
            questions)  # type: ignore[arg-type]

    def after_iter(self, iteration: int) -> None:
        """Notify every network of the end of a step; ``iteration`` counts from 1."""
        self.iteration = iteration
        for network in self.networks.values():
            network.after_iter(iteration)

    def after_epoch(self, epoch: int) -> None:
        """Notify every network of the end of an epoch; ``epoch`` counts from 1."""
        for network in self.networks.values():
            network.after_epoch(epoch)

    def model_of(self, name: str) -> nn.Module:
        """The model of a prepared network."""
        model = self.networks[name].model
        assert model is not None
        return model

    def provenance(self) -> Dict[str, Any]:
        """Origin of the student's weights: teachers, terms and versions.

        Returns:
            dict: Strings and numbers, and lists of the terms and of the networks except the
            student.
        """
        return record_of(self)

    def _apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        self.itself._apply(fn)
        self.side_modules._apply(fn)
