"""Score a model as the run scores its own."""
import os
import tempfile
from typing import Any, Callable, Dict, Optional

import torch

from ..points.recorder import evaluating


def score(runner: Any, loader: Any, model: Any, relabel: Callable,
          change: Optional[Callable] = None) -> Dict[str, float]:
    """The metrics of the run's validation, for another model; its files and the model stay.

    Args:
        runner (Runner): The run, with ``val_evaluator``.
        loader (DataLoader): Of the validation set.
        model (nn.Module): Has ``val_step``.
        relabel (Callable): Turns each prediction into the data set's classes.
        change (Callable, optional): Turns each batch of the loader into one that the model takes.
            Defaults to None.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        evaluator = runner.build_evaluator(_in_folder(runner._val_evaluator, folder))
        evaluator.dataset_meta = loader.dataset.metainfo
        with torch.no_grad(), evaluating(model):
            for batch in loader:
                predictions = [relabel(one) for one in model.val_step(
                    batch if change is None else change(batch))]
                evaluator.process(data_samples=predictions, data_batch=batch)
        scores = evaluator.evaluate(len(loader.dataset))
        del evaluator  # some metrics clean up their folder when they go
    return scores


def _in_folder(evaluator: Any, folder: str) -> Any:
    """Have metrics that write pictures (Cityscapes') write them apart, and not over the run's."""
    if isinstance(evaluator, (list, tuple)):
        return [_in_folder(one, os.path.join(folder, str(i))) for i, one in enumerate(evaluator)]
    if isinstance(evaluator, dict) and 'output_dir' in evaluator:
        return dict(evaluator, output_dir=os.path.join(folder, 'pictures'))
    return evaluator
