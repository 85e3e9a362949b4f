"""Files of first stages with random tokens, so that a step of the second stage can be measured."""
import atexit
import os
import shutil
import tempfile
from typing import List, Optional, Sequence, Tuple

import torch
from made_up import initialise
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import mmkd
from mmkd.losses.method import methods_of
from mmkd.networks import FrozenTeacher
from mmkd.networks.frozen import model_config


def random_first_stages(methods: Sequence[str], teacher: Config, kinds: Sequence[str],
                        checkpoint: Optional[str]) -> Tuple[List[str], Optional[str]]:
    """Write the file of each method that has a first stage, without training.

    A second stage checks that the file was made with its teacher, so the weights of a random
    teacher are written, too. All files are removed when the process ends.

    Args:
        methods (Sequence[str]): Names of methods, also joined by '+'.
        teacher (Config): Plain config of the teacher, without pre-trained weights.
        kinds (Sequence[str]): Of the student, see :func:`mmkd.points.kinds_of`.
        checkpoint (str, optional): Weights of the teacher, or None for random ones.

    Returns:
        tuple[list[str], str | None]: The files, and the checkpoint of the teacher; no file and the
        given checkpoint if no method has a first stage.
    """
    stages = [one.prepare[kind] for name in methods for one in methods_of(name)
              for kind in kinds if kind in one.prepare]
    if not stages:
        return [], checkpoint
    folder = tempfile.mkdtemp(prefix='mmkd_first_stages_')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if checkpoint is None:
        checkpoint = os.path.join(folder, 'teacher.pth')
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope(teacher.get('default_scope')):
            model = MODELS.build(model_config(teacher))
        initialise(model)
        torch.save(dict(state_dict=model.state_dict()), checkpoint)
    files = []
    for number, stage in enumerate(stages):
        files.append(os.path.join(folder, f'prepared_{number}.pth'))
        mmkd.Prepare(FrozenTeacher(config=teacher, checkpoint=checkpoint), dict(stage.module),
                     stage.on, files[-1]).write(folder, 0)
    return files, checkpoint
