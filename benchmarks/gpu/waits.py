"""Count where a distilled step makes the CPU wait for the GPU, beyond the student's own waits.

    python benchmarks/gpu/waits.py

`torch.cuda.set_sync_debug_mode('warn')` reports each wait. Those whose stack passes through mmkd
without a network below it (mmdet's, mmseg's or mmcv's files) are mmkd's own: there must be none.
"""
import copy
import traceback
import warnings
from collections import Counter
from typing import Any, List, Tuple

import torch
from parts import arguments, batch_of, models_of

import mmkd

CASES = {
    'retinanet': [[dict(type='mmkd.DISTLoss', on='cls')],
                  [dict(type='mmkd.KDLoss', on='cls'),
                   dict(type='mmkd.PKDLoss', on='neck'),
                   dict(type='mmkd.CWDLoss', on='neck', region='valid')]],
    'faster_rcnn': [[dict(type='mmkd.DISTLoss', on='cls'),
                     dict(type='mmkd.MSELoss', on='neck', connector='conv')]],
    'pspnet': [[dict(type='mmkd.CWDLoss', on='cls'), dict(type='mmkd.DISTLoss', on='cls')]],
}
HOME = mmkd.__path__[0]


def main() -> None:
    args = arguments(__doc__)
    print("| pair | methods | waits of the plain student | of the distilled step | mmkd's own |\n"
          '|---|---|---|---|---|')
    own: List[str] = []
    for pair, cases in CASES.items():
        for distill in cases:
            model = models_of(pair, distill, args.device)
            data = model.data_preprocessor(batch_of(model), True)
            plain, _ = waits(model.student, data)
            count, places = waits(model, data)
            own += places
            print(f'| {pair} | {", ".join(one["type"][5:-4] for one in distill)} | {plain} | '
                  f'{count} | {len(places)} |')
    for place, count in Counter(own).items():
        print(f'\n{count} at {place}')
    if own:
        raise SystemExit('mmkd waits for the GPU')


def waits(model: Any, data: Any) -> Tuple[int, List[str]]:
    """Return the number of waits in a warm step, and the places of those that mmkd causes."""
    for _ in range(2):
        model(**copy.copy(data), mode='loss')
    torch.cuda.synchronize()
    found: List[List[traceback.FrameSummary]] = []

    def shown(message: Any, *rest: Any, **more: Any) -> None:
        if 'synchron' in str(message):
            found.append(traceback.extract_stack()[:-1])

    with warnings.catch_warnings():
        warnings.simplefilter('always')
        warnings.showwarning = shown
        torch.cuda.set_sync_debug_mode('warn')
        try:
            model(**copy.copy(data), mode='loss')
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
