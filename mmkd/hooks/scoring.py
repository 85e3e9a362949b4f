"""How is another model evaluated with the metrics of a run?"""
import os
import tempfile
from typing import Any, Callable, Dict, Optional

import torch

from ..points.recorder import evaluating


def score(runner: Any, loader: Any, model: Any, relabel: Callable,
          change: Optional[Callable] = None) -> Dict[str, float]:
    """Evaluate another model with the validation metrics of a run, without changing the run.

    Args:
        runner (Runner): The run, with ``val_evaluator``.
        loader (DataLoader): Loader of the validation set.
        model (nn.Module): A model with ``val_step``.
        relabel (Callable): Maps each prediction to the classes of the data set.
        change (Callable, optional): Maps each batch of the loader to the input of the model.
            Defaults to None.

    Returns:
        dict[str, float]: The metrics by name.
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
        del evaluator  # some metrics remove their folder when they are deleted
    return scores


def _in_folder(evaluator: Any, folder: str) -> Any:
    """Set another output folder for metrics that write images (Cityscapes')."""
    if isinstance(evaluator, (list, tuple)):
        return [_in_folder(one, os.path.join(folder, str(i))) for i, one in enumerate(evaluator)]
    if isinstance(evaluator, dict) and 'output_dir' in evaluator:
        return dict(evaluator, output_dir=os.path.join(folder, 'pictures'))
    return evaluator
