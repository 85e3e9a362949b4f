"""One training step: networks learn, teachers are observed, terms are computed."""
from contextlib import ExitStack
from functools import partial
from typing import Any, Callable, Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from ..compare.pair_queries import NotFinite
from ..compare.parts import Parts
from ..compare.term import Term
from ..compare.vocabulary import Batch
from ..networks import LiveNetwork, Partner
from ..networks.inputs import inputs_of
from ..networks.sharing import computed_once
from ..points.recorder import Records
from .auto_weights import measure, paths_measured
from .diagnosis import Sides
from .gate import Gate, detached, shared_through
from .questions import Told, by_turn, seen_by, told_to, watched
from .shared_queries import Features, asked_again, remembering, sets_of
from .shares import Outputs, outputs_of
from .targets import hard_targets_mixed


class Step:
    """The losses of one step.

    Args:
        distillation (Distillation): A prepared distillation.
        inputs (Tensor): Float (N, C, H, W), normalised.
        data_samples (list | dict, optional): The N samples, or what the student is given instead.
        terms (Sequence[Term]): The terms for these images.
        is_labelled (bool): Whether the samples have labels. Defaults to True.
    """

    measures_weights = True
    """Whether weights are measured on these images."""

    def __init__(self, distillation: Any, inputs: Tensor, data_samples: Any,
                 terms: Sequence[Term], is_labelled: bool = True) -> None:
        self.distillation = distillation
        self.given = data_samples  # mmyolo's heads change the boxes in it: samples are read first
        samples = distillation.batches.samples(inputs, data_samples)
        self.batch = Batch(inputs, samples, distillation.iteration, is_labelled)
        self.of_stream = terms
        self.terms: List[Term] = [
            term for term in terms if term.share and all(
                distillation.networks[part.spec.source].is_ready for part in term.parts)]
        self.parts = [part for term in self.terms for part in term.parts]
        self.live: Dict[str, LiveNetwork] = {'student': distillation.itself,
                                             **distillation.partners}
        self.background: Dict[str, List[Tensor]] = {}
        self.told: Told = {}
        self.features: Features = {}
        self.again: Dict[str, Records] = {}
        self.outputs: Outputs = {}
        """Where the gradients of terms are compared with those of the losses on labels."""

    def losses(self, forward: Callable[..., Dict[str, Any]]) -> Dict[str, Any]:
        """Compute the losses of the student, of the partners and of the terms.

        Args:
            forward (Callable): The student's own forward.

        Raises:
            ValueError: If a loss of the student has the name of a term.
        """
        ask, batch = self.distillation.ask, self.batch
        try:
            # Before the learners store the activations of the step, to save memory.
            early, late = by_turn(self.parts, self.distillation.networks)
            sets = sets_of(self.parts, self.distillation.model_of, batch.iteration)
            self.told = ask({}, batch.inputs, batch.data_samples, early, {}, sets)
            own = self._learn(forward)
            losses = own.pop('student')
            self.again = asked_again(self.parts, sets, self.features,
                                     self.distillation.model_of, batch.iteration)
            seen = self._seen()
            values = {part.name: self._gate_of(term).records(seen[part.spec.learner])
                      for term in self.terms for part in term.parts
                      if part.spec.through is not None}
            self.told.update(ask(seen, batch.inputs, batch.data_samples, late, values))
            terms, own = self._finite(
                {self.name_of(term.name): self._compared(term) for term in self.terms}, own)
            terms = self._weighed(terms, losses)
            if self._measures():
                self.distillation.share_meter.measure(
                    self.of_stream, self.distillation.weights, terms, losses, self.outputs,
                    self.distillation.student)
            for its in own.values():
                losses.update(its)
            for name in [name for term in self.of_stream for name in self._add(
                    losses, term, terms.get(self.name_of(term.name), {}))][:1]:
                # In every process and step, so that none waits for the gradients of another.
                first, *others = losses[name]
                losses[name] = [self.distillation.side_modules.anchor(first), *others]
        finally:  # what was recorded holds the activations of a whole step
            for one in self.live.values():
                one.forget()
            self.features, self.again, self.outputs = {}, {}, {}
        return losses

    def name_of(self, name: str) -> str:
        """Name of a term in the log."""
        return name

    def _seen(self) -> Dict[str, Records]:
        return {**{name: one.seen for name, one in self.live.items() if one.seen is not None},
                **self.again}

    def _learn(self, forward: Callable[..., Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
        """The losses on labels of the student and of each partner, by name of the network."""
        model_of, batch = self.distillation.model_of, self.batch
        own: Dict[str, Dict[str, Any]] = {}
        with computed_once(module for one in self.distillation.partners.values()
                           for module in one.shared_modules):
            for name, network in self.live.items():
                paths = watched(self.parts, name)
                with ExitStack() as stack:
                    for term in self.terms:
                        if term.spec.alpha is not None and term.spec.learner == name:
                            self.background[term.name] = stack.enter_context(hard_targets_mixed(
                                model_of(name), term.parts[0].student_point, term.share,
                                term.spec.replaces, self.distillation.classes))
                    stack.enter_context(remembering(
                        self.parts, name, model_of(name), self.features))
                    if name == 'student' and self._measures():
                        weights = self.distillation.weights
                        self.outputs = stack.enter_context(outputs_of(model_of(name), dict.fromkeys(
                            [*paths_measured(weights, self.terms),
                             *self.distillation.share_meter.paths(self.of_stream, weights)])))
                    if isinstance(network, Partner):
                        gate = self.distillation.health.gate(name, batch.inputs.device)
                        stack.enter_context(shared_through(gate, network.shared_modules))
                        inputs = inputs_of(network, self.distillation.student, batch.inputs,
                                           batch.data_samples)
                        its = network.learn_from(inputs, batch.data_samples,  # type: ignore
                                                 paths)
                        own[name] = {f'{name}.{key}': value for key, value in its.items()}
                    else:
                        own[name] = dict(network.learn(
                            forward, batch.inputs, self.given, paths))  # type: ignore
        return own

    def _gate_of(self, term: Term) -> Gate:
        return self.distillation.health.gate(self.name_of(term.name), self.batch.inputs.device)

    def _compared(self, term: Term) -> Parts:
        model = self.distillation.model_of(term.spec.learner)
        told = [told_to(part, self.told) for part in term.parts]
        seen = self._seen()[seen_by(term.parts[0])]
        try:
            return term.compare(self._gate_of(term).records(seen), told, model, self.batch,
                                self.background.get(term.name, ()))
        except NotFinite:  # a NaN is left out by the check of the terms
            return {'': [next(model.parameters()).new_full((), float('nan'))]}

    def _finite(self, terms: Dict[str, Parts], own: Dict[str, Dict[str, Any]]
                ) -> Tuple[Dict[str, Parts], Dict[str, Dict[str, Any]]]:
        """Terms and losses of partners; those that are not finite are replaced by 0."""
        flat = {name: [one for part in parts.values() for one in part]
                for name, parts in terms.items()}
        sides = partial(sides_of, {self.name_of(term.name): term.parts[0] for term in self.terms},
                        detached(self._seen()), detached(self.told))
        checked, own = self.distillation.health.check(
            flat, sides, own, {self.name_of(term.name): term.spec.learner for term in self.terms})
        found: Dict[str, Parts] = {}
        for name, parts in terms.items():
            rest = iter(checked[name])
            found[name] = {part: [next(rest) for _ in levels] for part, levels in parts.items()}
        return found, own

    def _measures(self) -> bool:
        return (self.measures_weights and self.distillation.student.training and
                torch.is_grad_enabled())

    def _weighed(self, terms: Dict[str, Parts], task: Dict[str, Any]) -> Dict[str, Parts]:
        """Terms with the weights that are measured; ``task`` are the student's losses."""
        weights = self.distillation.weights
        if not weights:
            return terms
        gates = {term.name: self._gate_of(term) for term in self.terms}
        if self._measures():
            measure(weights, self.terms, terms, task, self.outputs, gates, self.batch.iteration)
        return {**terms, **{self.name_of(name): weights[name].applied(
            terms[self.name_of(name)], gate) for name, gate in gates.items() if name in weights}}

    def _add(self, losses: Dict[str, Any], term: Term, parts: Parts) -> List[str]:
        """Put a term among the losses under its name, a named part under '<term>_<part>'; the
        names."""
        inputs, own = self.batch.inputs, self.name_of(term.name)
        # A term that is left out is logged, too.
        named = {f'{own}_{part}' if part else own: levels
                 for part, levels in parts.items()} or {own: [inputs.new_zeros(())]}
        for name, levels in named.items():
            if name in losses:
                raise ValueError(f'`{term.name}` would be logged as `{name}`, but the student, or '
                                 f'another entry of `distill`, has a loss `{name}` as well; give '
                                 'the entry another `name=`')
            losses[name] = levels
        if term.is_scheduled:  # without 'loss' in the name: logged, not added up
            losses[own.replace('loss', 'factor')] = inputs.new_full((), term.factor)
        if self.measures_weights and term.name in self.distillation.weights:
            losses[own.replace('loss', 'weight')] = self.distillation.weights[term.name].shown(
                inputs)
        return list(named)


def sides_of(parts: Dict[str, Term], seen: Dict[str, Records], told: Told, name: str) -> Sides:
    """The levels of a term, for a diagnosis; for a committee, those of its first member."""
    part = parts[name]
    with torch.no_grad():
        return Sides(*part.levels(seen[seen_by(part)], told_to(part, told), is_paired=False))
