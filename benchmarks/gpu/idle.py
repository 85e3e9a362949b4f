"""Show how long the GPU is idle in a distilled step and in a step of the plain student.

    python benchmarks/gpu/idle.py --out work_dirs/gpu

RetinaNet R50 -> R18, 800x1344, batch 8, DIST. A step is profiled by torch.profiler. The GPU is idle
while no kernel runs. `idle.png` shows one bar per kernel, and below it one bar per range of mmkd's
Python code.
"""
import os
from functools import partial
from typing import Any, Callable, List, Tuple

import matplotlib
import torch
from mmengine.optim import OptimWrapper
from parts import arguments, batch_of, models_of
from torch.profiler import ProfilerActivity, profile, record_function

matplotlib.use('Agg')
import matplotlib.pyplot as plt

Spans = List[Tuple[float, float]]
OWN = ('ask', 'losses')
"""Methods of Distillation that are plotted as ranges."""


def main() -> None:
    args = arguments(__doc__)
    model = models_of('retinanet', [dict(type='mmkd.DISTLoss', on='cls')], args.device)
    optimizer = OptimWrapper(torch.optim.SGD(model.student.parameters(), lr=1e-9))
    batch = batch_of(model, 800, 1344, 8)
    for name in OWN:
        method = getattr(model.distillation, name)
        setattr(model.distillation, name, named(f'mmkd.{name}', method))
    found = {}
    for title, one in (('student alone', model.student), ('DIST', model)):
        found[title] = spans_of(partial(train, one, batch, optimizer))
    print('| step | milliseconds | GPU idle |\n|---|---|---|')
    for title, (kernels, _, length) in found.items():
        busy = sum(end - begin for begin, end in merged(kernels))
        print(f'| {title} | {length / 1e3:.1f} | {100 * (1 - busy / length):.1f} % |')
    draw(found, os.path.join(args.out, 'idle.png'))


def train(model: Any, batch: Any, optimizer: OptimWrapper) -> None:
    model.train_step(batch, optimizer)  # the data preprocessor copies it to the GPU


def named(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*args: Any, **kwargs: Any) -> Any:
        with record_function(name):
            return method(*args, **kwargs)
    return inside


def spans_of(step: Callable[[], Any]) -> Tuple[Spans, Spans, float]:
    """Return the kernels and mmkd's ranges of the last step, in microseconds, and its length."""
    for _ in range(5):
        step()
    torch.cuda.synchronize()
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as profiler, record_function('whole step'):
        step()
        torch.cuda.synchronize()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    of_gpu = torch._C._autograd.DeviceType.CUDA
    kernels = [span(one) for one in events if one.device_type() == of_gpu and not is_range(one)]
    own = [span(one) for one in events if one.name().startswith('mmkd.') and
           one.device_type() != of_gpu]
    whole = next(span(one) for one in events if one.name() == 'whole step' and
                 one.device_type() != of_gpu)
    begin = whole[0]
    return ([(a - begin, b - begin) for a, b in kernels], [(a - begin, b - begin) for a, b in own],
            whole[1] - begin)


def is_range(event: Any) -> bool:
    """Whether an event of the GPU is a named range, such as a step, and no kernel."""
    if hasattr(event, 'is_user_annotation'):
        return bool(event.is_user_annotation())
    return '#' in event.name() or event.name().startswith(('mmkd.', 'whole'))


def span(event: Any) -> Tuple[float, float]:
    begin = event.start_ns() / 1e3
    return begin, begin + event.duration_ns() / 1e3


def merged(spans: Spans) -> Spans:
    """Return the union of intervals."""
    found: Spans = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def draw(found: Any, path: str) -> None:
    figure, axes = plt.subplots(len(found), 1, figsize=(10, 1.6 * len(found)), sharex=True)
    for axis, (title, (kernels, own, length)) in zip(axes, found.items()):
        axis.broken_barh([(a / 1e3, (b - a) / 1e3) for a, b in merged(kernels)], (1, 0.8),
                         color='#4477aa')
        axis.broken_barh([(a / 1e3, (b - a) / 1e3) for a, b in own], (0, 0.8), color='#ee6677',
                         alpha=0.5)
        axis.set_yticks([0.4, 1.4], ['mmkd on the CPU', 'kernels'])
        axis.set_title(title, loc='left', fontsize=10)
        axis.set_xlim(0, length / 1e3)
    axes[-1].set_xlabel('milliseconds')
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == '__main__':
    main()
