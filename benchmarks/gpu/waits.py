"""Count where a distilled step makes the CPU wait for the GPU, beyond the student's own waits.

    python benchmarks/gpu/waits.py

A step is that of training: data preprocessor, losses, backward, optimizer.
`torch.cuda.set_sync_debug_mode('warn')` reports each wait. Those whose stack passes through mmkd
without a network below it (mmdet's, mmseg's or mmcv's files) are mmkd's own: there must be none,
except for a cache, which reads the images to find their answers.
"""
import copy
import tempfile
import traceback
import warnings
from collections import Counter
from typing import Any, Dict, List, Tuple

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from parts import arguments, batch_of, models_of

import mmkd

DIST = dict(type='mmkd.DISTLoss', on='cls')
CASES: List[Tuple[str, List[dict], Dict[str, Any]]] = [
    ('retinanet', [DIST], {}),
    ('retinanet', [dict(type='mmkd.KDLoss', on='cls'), dict(type='mmkd.PKDLoss', on='neck'),
                   dict(type='mmkd.CWDLoss', on='neck', region=dict(type='mmkd.Foreground'))], {}),
    ('faster_rcnn', [DIST, dict(type='mmkd.MSELoss', on='neck', connector='conv')], {}),
    ('pspnet', [dict(type='mmkd.CWDLoss', on='cls', region='valid'), DIST], {}),
    ('retinanet', [DIST], dict(type='mmkd.CachedTeacher')),
]
"""Pair, entries, and options of the teacher."""
HOME = mmkd.__path__[0]


def main() -> None:
    args = arguments(__doc__)
    print('| pair | methods | teacher | waits of the plain student | of the distilled step | '
          "mmkd's own |\n|---|---|---|---|---|---|")
    own: List[str] = []
    for pair, distill, options in CASES:
        with tempfile.TemporaryDirectory() as folder:
            is_cached = 'type' in options
            if is_cached:
                options = dict(options, cache=folder)
            model = models_of(pair, distill, args.device, **options)
            batch = batch_of(model)
            plain, _ = waits(model.student, batch)
            count, places = waits(model, batch)
        own += [] if is_cached else places
        print(f'| {pair} | {", ".join(one["type"][5:-4] for one in distill)} | '
              f'{"cached" if is_cached else "runs"} | {plain} | {count} | {len(places)} |',
              flush=True)
    for place, count in Counter(own).items():
        print(f'\n{count} at {place}')
    if own:
        raise SystemExit('mmkd waits for the GPU')


def waits(model: Any, batch: Any) -> Tuple[int, List[str]]:
    """Return the number of waits in a warm step, and the places of those that mmkd causes."""
    optimizer = OptimWrapper(torch.optim.SGD(
        getattr(model, 'student', model).parameters(), lr=1e-9))
    for _ in range(2):
        BaseModel.train_step(model, copy.deepcopy(batch), optimizer)
    copied = copy.deepcopy(batch)
    torch.cuda.synchronize()
    found: List[List[traceback.FrameSummary]] = []

    def shown(message: Any, *rest: Any, **more: Any) -> None:
        if 'called a synchronizing' in str(message):
            found.append(traceback.extract_stack()[:-1])

    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = shown
        torch.cuda.set_sync_debug_mode('warn')
        try:
            BaseModel.train_step(model, copied, optimizer)
        finally:
            torch.cuda.set_sync_debug_mode('default')
    places = []
    for stack in found:
        files = [frame.filename for frame in stack]
        last = max((i for i, file in enumerate(files) if file.startswith(HOME)), default=None)
        if last is not None and not any(
                part in file for file in files[last:] for part in
                ('/mmdet/', '/mmseg/', '/mmcv/', '/mmengine/')):
            places.append(f'{files[last][len(HOME) + 1:]}:{stack[last].lineno} {stack[last].line}')
    return len(found), places


if __name__ == '__main__':
    main()
