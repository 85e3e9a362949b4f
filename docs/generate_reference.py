"""Write docs/reference/: one page for each kind of public name, with its docstring.

    python docs/generate_reference.py

MkDocs puts the docstrings into the pages; on GitHub they are lists of names.
"""
import inspect
from pathlib import Path
from typing import Any, Dict, List, Tuple

import mmkd
import mmkd.worth
from mmkd.losses import PreparedLoss, PreparedModule

FOLDER = Path(__file__).resolve().parent / 'reference'
PAGES = {
    'losses': ('Losses', 'What a term compares with what. [Methods](../methods.md) has the '
               'sources, settings and published figures of each.'),
    'teachers': ('Teachers and companions', 'Networks that teach, for `teacher` and '
                 '`companions` of a [config](../config.md).'),
    'training': ('Distiller, regions, hooks', 'What goes into `model`, `hooks` and '
                 '`optim_wrapper` of a config.'),
    'data': ('Data', 'Transforms, data sets and samplers.'),
    'extend': ('Base classes and registries', 'What [your own](../your_own.md) loss, connector, '
               'region, teacher or family derives from.'),
    'worth': ('Is it worth it?', 'The examination of a pair from Python, see [is it worth '
              'it?](../worth_it.md)'),
}
LOSSES = mmkd.DistillLoss, PreparedLoss, PreparedModule
ON_GITHUB = ('<!-- on GitHub -->\n*Each `:::` stands for the docstring of a name: `make docs` '
             'builds the site, which has them.*\n<!-- /on GitHub -->')
"""What the site leaves out."""
BASES = ('BaseTeacher', 'Connector', 'Context', 'DistillLoss', 'LogitLoss', 'Method', 'ModelFamily',
         'Point', 'PreparedLoss', 'PreparedModule', 'Recipe', 'Region', 'Bank', 'gathered',
         'inside_of', 'provides', 'tensors_of')
TABLES = {
    'MODELS': 'connectors, regions, teachers, the Distiller',
    'HOOKS': 'hooks', 'TRANSFORMS': 'transforms', 'DATASETS': 'data sets',
    'DATA_SAMPLERS': 'samplers', 'FAMILIES': 'families of models',
    'LOSSES': 'losses, by `@mmkd.losses.LOSSES.register`',
    'PREPARED': 'modules of a first stage, by `@mmkd.losses.PREPARED.register`',
    'METHODS': 'methods of `--method`, by name'}


def page_of(name: str, thing: Any) -> str:
    """The page of a public name of mmkd."""
    module = thing.__module__
    if name in BASES:
        return 'extend'
    if inspect.isclass(thing) and issubclass(thing, LOSSES):
        return 'losses'
    if module.startswith('mmkd.networks'):
        return 'teachers'
    return 'data' if module.startswith('mmkd.data') and name != 'PseudoLabels' else 'training'


def pages() -> Dict[str, str]:
    """The text of each page, by name."""
    names: Dict[str, List[Tuple[str, str]]] = {page: [] for page in PAGES}
    for name in mmkd.__all__:
        thing = getattr(mmkd, name)
        if name not in TABLES and name != '__version__':
            names[page_of(name, thing)].append((name, f'{thing.__module__}.{thing.__name__}'))
    for name in mmkd.worth.__all__:
        thing = getattr(mmkd.worth, name)
        names['worth'].append((name, f'{thing.__module__}.{thing.__name__}'))
    made = {}
    for page, (title, line) in PAGES.items():
        parts = [f'# {title}', '', line, '', ON_GITHUB, '']
        if page == 'extend':
            parts += ['Registries and tables, in which a config finds names:', '',
                      *(f'- `mmkd.{table}`: {of}' for table, of in TABLES.items()), '']
        prefix = 'mmkd.worth' if page == 'worth' else 'mmkd'
        for name, path in sorted(names[page], key=lambda one: one[0].lower()):
            parts += [f'## {prefix}.{name}', '', f'::: {path}', '']
        made[page] = '\n'.join(parts)
    return made


if __name__ == '__main__':
    FOLDER.mkdir(exist_ok=True)
    for page, text in pages().items():
        (FOLDER / f'{page}.md').write_text(text)
    print(f'{FOLDER}: {len(PAGES)} pages')
