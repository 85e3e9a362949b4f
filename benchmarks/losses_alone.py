"""Losses alone: time and memory in several forms, beside the traffic of memory."""
import argparse
import gc
from statistics import median
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch
from loss_calls import has_two_forms, is_of_logits, loss_of, prepared
from measuring import as_table, in_a_process, peak, peak_of, timed

from mmkd.losses import DistillLoss

STRAIGHTFORWARD, COMPILED, OURS = 'straightforward', 'torch.compile', 'mmkd'
TRAFFIC, LEAST = 'read twice and write', 'read once and write'


def loss_step(args: argparse.Namespace, name: str, form: str) -> Callable[[], Any]:
    """Value and gradient of a loss in one of its :func:`forms`."""
    generator = torch.Generator().manual_seed(0)
    loss = loss_of(name)
    assert loss is not None, name
    student, teacher = (torch.randn(shape_of(args, loss), generator=generator).to(args.device)
                        for _ in range(2))
    student.requires_grad_()
    value: Any = prepared(loss, student, teacher, generator,
                          form != OURS and has_two_forms(loss))
    if form == COMPILED:
        value = torch.compile(value)

    def step() -> None:
        student.grad = None
        value(student, teacher).backward()

    return step


def shape_of(args: argparse.Namespace, loss: DistillLoss) -> List[int]:
    shape: List[int] = args.loss_shape if is_of_logits(loss) else args.feature_shape
    return shape


def measure_losses(args: argparse.Namespace) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Measure seconds and memory of one loss after another, in all forms."""
    for name in args.losses:
        loss = loss_of(name)
        if loss is None:
            continue
        steps = {form: loss_step(args, name, form) for form in forms(args, loss)}
        seconds = timed(dict(steps, **traffic_of(args, loss)), args)
        count = torch.Size(shape_of(args, loss)).numel()
        memory: Dict[str, float] = {}
        if not args.no_memory:
            for form, step in steps.items():
                found = (peak_of(step, args.device) if args.device.startswith('cuda') else
                         in_a_process(f'{name}/{form}')['peak'])
                memory[form] = found / (4 * count / 2**20)
        del steps
        gc.collect()  # only the tensors of one loss exist at a time
        yield name, dict(seconds=seconds, memory=memory, elements=count)


def memory_of_loss(args: argparse.Namespace, name: str, form: str) -> Dict[str, float]:
    """Peak memory of a form in MiB, beyond that of both inputs."""
    if form == COMPILED:  # the memory of the compiler does not count
        small = argparse.Namespace(**{**vars(args), 'loss_shape': [1, 2, 3, 4],
                                      'feature_shape': [1, 32, 4, 4]})
        loss_step(small, name, form)()
        torch._dynamo.reset()
    step = loss_step(args, name, form)
    before = peak(args.device)
    step()
    return dict(peak=peak(args.device) - before)


def forms(args: argparse.Namespace, loss: DistillLoss) -> List[str]:
    """The forms of a loss that are measured."""
    return [*[STRAIGHTFORWARD] * has_two_forms(loss), *[COMPILED] * args.compiled, OURS]


def traffic_of(args: argparse.Namespace, loss: DistillLoss) -> Dict[str, Callable[[], Any]]:
    """Return the traffic of memory: read both inputs once or twice, and write a gradient.

    A loss that needs statistics of whole rows reads both inputs twice, unless they fit into a
    cache.
    """
    a, b = (torch.randn(shape_of(args, loss), device=args.device) for _ in range(2))
    gradient = torch.empty_like(a)

    def once() -> None:
        torch.add(a, b, out=gradient)

    def twice() -> None:
        a.sum()
        b.sum()
        once()

    return {TRAFFIC: twice, LEAST: once}


def table_of_losses(found: Dict[str, Any], args: argparse.Namespace) -> str:
    others = [STRAIGHTFORWARD, *[COMPILED] * args.compiled]
    has_memory = any(one['memory'] for one in found.values())
    rows = [['loss', 'mmkd, milliseconds', *[f'{form} / mmkd, time' for form in others],
             'mmkd / memory traffic, time', 'GB/s, of the bandwidth',
             *[f'memory, {form}' for form in [*others, OURS] if has_memory]]]
    for name, one in found.items():
        seconds = {form: median(values) for form, values in one['seconds'].items()}
        own = seconds[OURS]
        rows.append([
            name, f'{1e3 * own:.3g}', *[_shown(seconds.get(form, 0.) / own) for form in others],
            f'{own / seconds[TRAFFIC]:.1f}',
            f'{12 * one["elements"] / own / 1e9:.3g}, {seconds[LEAST] / own:.0%}',
            *[_shown(one['memory'].get(form, 0.)) for form in [*others, OURS] if has_memory]])
    left_out = [name for name in args.losses if name not in found]
    return (f'Logits {tuple(args.loss_shape)}, features {tuple(args.feature_shape)}, forward and '
            'backward. Memory traffic: both inputs are read twice, and a gradient is written. '
            'GB/s, and its part of the bandwidth: for both inputs, read once, and a gradient. '
            'Memory in sizes of the input of one side, beyond both inputs, gradient included; – '
            f'where a loss has one form.\n\n{as_table(rows)}' + (
                f'\nNot called on two maps alone: {", ".join(left_out)}.\n' if left_out else ''))


def _shown(value: float) -> str:
    return f'{value:.1f}' if value else '–'
