"""Which images does tools/label.py label, and how are they loaded?"""
import os
from typing import Any, Dict, List, Sequence, Tuple

import torch
from common import read_config
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, DefaultScope

from mmkd.core.missing import looked_for
from mmkd.core.names import joined
from mmkd.data.folder import SUFFIXES, images_in
from mmkd.data.pseudo_labels import image_paths, overlap


def find_images(source: str) -> Tuple[str, List[str]]:
    """A folder, and paths in it.

    Args:
        source (str): Folder, .txt file or config.

    Raises:
        SystemExit: If there is none.
    """
    if os.path.isdir(source):
        content = images_in(source)
        found, root = list(content.images), source
        said = (f'a file that ends in {joined(SUFFIXES)}, but it has {content.counted()}; give '
                'another folder, or a .txt file with the paths of the images')
    elif source.endswith('.txt') and os.path.isfile(source):
        with open(source, encoding='utf-8') as file:
            found = [line.strip() for line in file if line.strip()]
        missing = [path for path in found if not os.path.isfile(path)]
        if missing:
            raise SystemExit(f'{source} names {len(missing)} files that do not exist, the '
                             f'first is {missing[0]} {looked_for(missing[0])}; correct the paths')
        root = folder_of(found)
        said = 'a path in each line; write the paths of the images'
    elif '::' in source or source.endswith('.py'):
        config = read_config(source)
        with DefaultScope.overwrite_default_scope(config.get('default_scope')):
            dataset = dataset_of(config, 'train')
        found = list(image_paths(dataset))
        prefix = getattr(dataset, 'data_prefix', {})
        root = prefix.get('img') or prefix.get('img_path') or folder_of(found)
        said = 'images in its train_dataloader; give another config, or a folder'
    else:
        raise SystemExit(f'no images at {source} {looked_for(source)}; give a folder, a '
                         '.txt file with a path in each line, or a config')
    if not found:
        raise SystemExit(f'no image in {source}: expected {said}')
    root = os.path.abspath(root)
    return root, sorted({os.path.relpath(os.path.abspath(path), root) for path in found})


def folder_of(paths: Sequence[str]) -> str:
    """The folder that all files are in."""
    return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths] or ['.'])


def dataset_of(config: Config, part: str) -> Any:
    """Build a data set of a config, without pipelines and with all images, unlabelled ones too."""
    return DATASETS.build(_bare(config[f'{part}_dataloader'].dataset))


def _bare(entry: Any) -> Dict[str, Any]:
    if 'dataset' in entry:
        return dict(entry, dataset=_bare(entry['dataset']))
    if 'datasets' in entry:
        return dict(entry, datasets=[_bare(one) for one in entry['datasets']])
    return dict(entry, pipeline=[], filter_cfg=None)


def warn_of_overlap(source: str, root: str, names: Sequence[str]) -> None:
    """Say which images are in a data set of a config, too."""
    config = read_config(source)
    paths = [os.path.join(root, name) for name in names]
    with DefaultScope.overwrite_default_scope(config.get('default_scope')):
        said: List[List[str]] = []
        for part in ('train', 'val', 'test'):
            if config.get(f'{part}_dataloader'):
                both = overlap(dataset_of(config, part), paths)
                if both and both not in said:  # often val and test are one set
                    said.append(both)
                    print(f'WARNING: {len(both)} of {len(paths)} images are in the {part} set of '
                          f'{source}, too, by SHA-256, such as {both[0]}' +
                          ('; figures on it say nothing if a student trains on them'
                           if part != 'train' else ''))


class Images(torch.utils.data.Dataset):
    """Images through the test pipeline; only the name if a file cannot be read."""

    def __init__(self, root: str, names: Sequence[str], pipeline: Sequence[dict]) -> None:
        steps = [one for one in pipeline if 'Annotations' not in str(one.get('type'))]
        self.load, self.rest = Compose(steps[:1]), Compose(steps[1:])
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Any:
        name = self.names[number]
        try:
            image = self.load(dict(
                img_path=os.path.join(self.root, name), img_id=number, sample_idx=number,
                seg_fields=[], reduce_zero_label=False))
        except Exception:  # what a reader raises depends on the library
            image = None
        return name, image and self.rest(image)


def pipeline_of(config: Config) -> Sequence[dict]:
    """The test pipeline of a config."""
    entry = (config.get('test_dataloader') or config.get('val_dataloader') or {}).get('dataset')
    while entry and 'pipeline' not in entry and entry.get('dataset'):
        entry = entry['dataset']
    pipeline = (entry or {}).get('pipeline') or config.get('test_pipeline')
    if not pipeline:
        raise SystemExit('the config has no test pipeline: no `test_dataloader.dataset.pipeline` '
                         'and no `test_pipeline`; add one')
    return list(pipeline)
