"""Write docs/reference/: one page for each kind of public name, with its docstring.

    python docs/generate_reference.py

MkDocs puts the docstrings into the pages. On GitHub a name has its parameters and the first
sentence; the site leaves these lines out, because the docstring has them.
"""
import inspect
import re
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
ON_GITHUB = '<!-- on GitHub -->\n{}\n<!-- /on GitHub -->\n'
"""What the site leaves out."""
NOTE = ('*Each `:::` stands for the docstring of a name. `make docs` builds the site, which has '
        'them; `python -c "import mmkd; help(mmkd.Bank)"` prints one.*')
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


def parameters(thing: Any) -> str:
    """The parameters of a class or function with their defaults, without annotations."""
    try:
        signature = inspect.signature(thing)
    except ValueError:  # of a class in C
        return ''
    plain = [one.replace(annotation=one.empty, default=one.default if one.default is one.empty or (
        isinstance(one.default, (bool, int, float, str, tuple, type(None)))) else ...)
        for one in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=signature.empty))


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring, as Markdown."""
    text = ' '.join(inspect.cleandoc(thing.__doc__ or '').split('\n\n')[0].split())
    text = re.sub(r':\w+:`~?([^`]*)`', r'`\1`', text.replace('``', '`'))
    text = re.sub(r'`([^`<]+?) <([^>`]+)>`__?', r'[\1](\2)', text)
    return re.sub(r'(?<=[.])\s+[A-Z`].*', '', text)


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
    names: Dict[str, List[Tuple[str, Any]]] = {page: [] for page in PAGES}
    for name in mmkd.__all__:
        if name not in TABLES and name != '__version__':
            names[page_of(name, getattr(mmkd, name))].append((name, getattr(mmkd, name)))
    for name in mmkd.worth.__all__:
        names['worth'].append((name, getattr(mmkd.worth, name)))
    made = {}
    for page, (title, line) in PAGES.items():
        parts = [f'# {title}', '', line, '', ON_GITHUB.format(NOTE)]
        if page == 'extend':
            parts += ['Registries and tables, in which a config finds names:', '',
                      *(f'- `mmkd.{table}`: {of}' for table, of in TABLES.items()), '']
        prefix = 'mmkd.worth' if page == 'worth' else 'mmkd'
        for name, thing in sorted(names[page], key=lambda one: one[0].lower()):
            parts += [f'## {prefix}.{name}', '',
                      ON_GITHUB.format(f'`{name}{parameters(thing)}`\n\n{first_sentence(thing)}'),
                      f'::: {thing.__module__}.{thing.__name__}', '']
        made[page] = '\n'.join(parts)
    return made


if __name__ == '__main__':
    FOLDER.mkdir(exist_ok=True)
    for page, text in pages().items():
        (FOLDER / f'{page}.md').write_text(text)
    print(f'{FOLDER}: {len(PAGES)} pages')
