"""Which unlabelled images has a step, and what does batch norm do with them?"""
import os
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Optional, Union

from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..core.log import warn
from ..core.names import joined
from ..core.runner import current_runner
from ..data.folder import endings
from ..data.pseudo_labels import overlap
from ..data.unlabelled import EndlessBatches, Seeded
from ..data.without_labels import first_pipeline, name_of, of_folder, without_labels

NORMS = ('labelled', 'both', 'frozen')
KEYS = ('folder', 'suffixes', 'dataloader', 'norm')


class Unlabelled:
    """The stream of unlabelled images.

    The images of a step depend on the seed of the run, the number of the iteration and the rank of
    the process only, and so does their augmentation. So a resumed run continues with the images of
    an uninterrupted one, without a saved state.

    Args:
        source (str | dict): A folder of images, or a dict with

            - ``folder``: the folder;
            - ``suffixes``: with ``folder``, the endings of its images, see
              :class:`mmkd.ImageFolder`;
            - ``dataloader``: as ``train_dataloader`` of MMEngine. Annotations of its data set are
              not loaded. What it lacks (pipeline, batch size, workers) is taken from the run's
              ``train_dataloader``. Its sampler is replaced;
            - ``norm``: which images change the running statistics of batch norms. 'labelled', the
              default: each stream is normalised by its own batch, and the running statistics, which
              a test uses, are those of labelled images, which tests resemble; 'both': unlabelled
              images change them, too; 'frozen': unlabelled images are normalised by the running
              statistics, for instance in batches of one image.

    Raises:
        TypeError: If ``source`` or ``suffixes`` is of the wrong type.
        ValueError: If a key is unknown, neither ``folder`` nor ``dataloader`` is given, or
            ``suffixes`` without ``folder``.
    """

    def __init__(self, source: Union[str, Dict[str, Any]]) -> None:
        given = dict(folder=source) if isinstance(source, str) else source
        example = "unlabelled='path/to/images' or dict(dataloader=dict(dataset=...))"
        if not isinstance(given, dict):
            raise TypeError('`unlabelled` must be a folder of images or a dict with a `dataloader`,'
                            f' but got {source!r:.200}; write for instance {example}')
        unknown = [key for key in given if key not in KEYS]
        if unknown:
            raise ValueError(f'`unlabelled` must have the keys {", ".join(KEYS)}, but got '
                             f'`{unknown[0]}`; write for instance {example}')
        loader: Any = given.get('dataloader') or {}
        self.folder: Any = given.get('folder')
        self.loader_config = loader
        if not isinstance(loader, dict) or (self.folder is None) == ('dataset' not in loader):
            raise ValueError('`unlabelled` must have either a `folder` of images or a `dataloader` '
                             f'with a `dataset`, but got {source!r:.200}; write for instance '
                             f'{example}')
        self.suffixes: Any = given.get('suffixes')
        if self.suffixes is not None:
            if self.folder is None:
                raise ValueError('`unlabelled.suffixes` are endings of the images of a `folder`, '
                                 'but there is a `dataloader`; leave `suffixes` out')
            self.suffixes = endings(self.suffixes, 'unlabelled.suffixes')
        self.norm = given.get('norm', NORMS[0])
        if self.norm not in NORMS:
            raise ValueError('`unlabelled.norm` must be one of '
                             f'{", ".join(map(repr, NORMS))}, but got {self.norm!r}; write one of '
                             'these, or leave it out')
        self.dataset: Any = None
        self._config: Dict[str, Any] = {}
        self._seed = 0
        self._batches: Optional[Iterator[Any]] = None
        self._step, self._batch = -1, None

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'Unlabelled':
        return self  # a copy of the model (MMEngine's EMAHook makes one) is not trained

    # --- before training ------------------------------------------------------------------------

    def prepare(self, student: nn.Module) -> None:
        """Build the data set.

        Args:
            student (nn.Module): The student.

        Raises:
            FileNotFoundError: If the folder does not exist or has no images, or a file or folder
                is missing that lists or holds those of another data set.
            ValueError: If the data set has no images, or cannot be completed without a Runner.
        """
        runner = current_runner()
        like: Dict[str, Any] = {}
        scope = None
        if runner is not None:
            like = dict(runner.cfg.get('train_dataloader') or {})
            scope = runner.cfg.get('default_scope')
            self._seed = runner.seed or 0
        config = self._completed(like, scope)
        with DefaultScope.overwrite_default_scope(scope):
            self.dataset = built(config['dataset'])
        self._config = dict(config, dataset=Seeded(self.dataset))
        check_recomputed(student, self.norm)
        print_log(f'Unlabelled images: {len(self.dataset)}, {config["batch_size"]} for each '
                  'process in a step', 'current')
        if runner is not None:
            warn_of_overlap(runner, self.dataset)

    def _completed(self, like: Dict[str, Any], scope: Optional[str]) -> Dict[str, Any]:
        """The config of the loader."""
        own: Dict[str, Any] = dict(self.loader_config)
        dataset: Any = dict(like.get('dataset') or {})
        if self.folder is not None:
            own['dataset'] = of_folder(os.path.abspath(os.path.expanduser(self.folder)), dataset,
                                       self.suffixes)
        if not first_pipeline(own['dataset']):
            own['dataset'] = dict(own['dataset'], pipeline=first_pipeline(dataset))
        if not first_pipeline(own['dataset']):
            raise ValueError('`unlabelled` has no pipeline, and there is no `train_dataloader` '
                             'whose pipeline could be used; write `dataloader=dict(batch_size=..., '
                             'dataset=dict(..., pipeline=[...]))`')
        if 'sampler' in own:
            print_log('`sampler` of the unlabelled images is ignored: their order depends only on '
                      'the seed and the iteration', 'current')
        keys = 'batch_size', 'num_workers', 'collate_fn', 'pin_memory'
        taken: Dict[str, Any] = {key: like[key] for key in keys if key in like}
        config: Dict[str, Any] = {'batch_size': 1, 'num_workers': 0, **taken, **own}
        config['dataset'] = without_labels(config['dataset'], scope)
        if not config['num_workers']:
            for key in ('persistent_workers', 'prefetch_factor'):
                config.pop(key, None)
        for key in ('sampler', 'batch_sampler', 'drop_last'):
            config.pop(key, None)
        return config

    # --- every step -----------------------------------------------------------------------------

    def batch(self, step: int) -> Any:
        """The batch of a step, before the data preprocessor.

        Args:
            step (int): Number of the iteration, from 0. A step that does not follow the one before
                starts the workers again.
        """
        if step != self._step or self._batch is None:
            if step != self._step + 1 or self._batches is None:
                self._batches = iter(self._loader(step))
            self._step, self._batch = step, next(self._batches)
        return self._batch

    def _loader(self, start: int) -> Any:
        rank, world_size = get_dist_info()
        sampler = dict(type=EndlessBatches, seed=self._seed, start=start, rank=rank,
                       world_size=world_size)
        return Runner.build_dataloader(
            dict(self._config, sampler=dict(type='DefaultSampler', shuffle=False),
                 batch_sampler=sampler), seed=self._seed)

    @contextmanager
    def normalizing(self, model: nn.Module) -> Iterator[None]:
        """Inside the block, batch norms of a model in training treat unlabelled images."""
        norms = trained_norms(model) if self.norm != 'both' else []
        name = 'training' if self.norm == 'frozen' else 'track_running_stats'
        before = [getattr(one, name) for one in norms]
        for one in norms:
            setattr(one, name, False)
        try:
            yield
        finally:
            for one, value in zip(norms, before):
                setattr(one, name, value)


def built(config: Dict[str, Any]) -> Any:
    """Build a data set.

    Raises:
        FileNotFoundError: If a file or a folder is missing that lists or holds its images.
        ValueError: If it has no images.
    """
    empty = ValueError(f'the unlabelled data set, {name_of(config)}, has no images; check '
                       '`ann_file`, `data_prefix` and `filter_cfg`')
    try:
        dataset = DATASETS.build(config)
        if hasattr(dataset, 'full_init'):
            dataset.full_init()
    except FileNotFoundError as error:
        if error.filename is None:  # a message of our own
            raise
        raise FileNotFoundError(
            f'the unlabelled data set, {name_of(config)}, does not find {str(error.filename)!r}, '
            'which lists or holds its images; correct `data_root`, `ann_file` or `data_prefix`, or '
            "write the folder of the images alone: unlabelled=dict(folder='path/to/images')"
        ) from error
    except ValueError as error:
        if 'need at least one array' not in str(error):  # MMEngine serializes an empty list
            raise
        raise empty from error
    if not len(dataset):
        raise empty
    return dataset


def trained_norms(model: nn.Module) -> List[_BatchNorm]:
    """Batch norms that use the statistics of the batch, and update running ones."""
    return [one for one in model.modules()
            if isinstance(one, _BatchNorm) and one.training and one.track_running_stats]


def check_recomputed(student: nn.Module, norm: str) -> None:
    """Check that no batch norm is computed again in the backward pass, outside of the block.

    Raises:
        ValueError: If one is.
    """
    if norm == 'both':
        return
    for path, module in student.named_modules():
        if getattr(module, 'with_cp', False) and trained_norms(module):
            raise ValueError(
                f'`unlabelled.norm={norm!r}` has no effect on the batch norms of `{path}` of the '
                'student, which is computed again in the backward pass (`with_cp=True`); write '
                "norm='both', or with_cp=False")


def warn_of_overlap(runner: Any, dataset: Any) -> None:
    """Warn of unlabelled images that are among the labelled ones, or those of the validation."""
    if get_dist_info()[0]:
        return
    loaders = dict(training=getattr(runner._train_loop, 'dataloader', None),
                   validation=getattr(runner._val_loop, 'dataloader', runner._val_dataloader))
    for name, loader in loaders.items():
        if isinstance(loader, dict):
            with DefaultScope.overwrite_default_scope(runner.cfg.get('default_scope')):
                other = DATASETS.build(loader['dataset'])
        else:
            other = getattr(loader, 'dataset', None)
        if other is None:
            continue
        try:
            found = overlap(other, dataset)
        except Exception as error:  # a data set of another kind, without paths
            print_log(f'unlabelled images could not be compared with those of the {name}: '
                      f'{type(error).__name__}: {error}', 'current')
            continue
        if found:
            why = ('these images have labels' if name == 'training' else
                   'the student is trained on images that it is evaluated on')
            warn(f'{len(found)} of {len(dataset)} unlabelled images are among those of the {name}, '
                 f'such as {joined(found, 2)}: {why}; remove them from `unlabelled`')
