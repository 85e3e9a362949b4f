"""Write docs/methods.md from the doc cards of mmkd/losses and the measured costs.

    python docs/generate_methods.py
"""
import inspect
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional

from mmkd.core.table import LOSSES
from mmkd.losses import METHODS, Method
from mmkd.losses.card import FIELDS, card_of, losses_of, needs_of

DOCS = Path(__file__).resolve().parent
PAGE = DOCS / 'methods.md'
CONFIGS = DOCS.parent / 'configs'
COSTS = DOCS / 'results' / 'methods' / 'costs.json'
"""Written by benchmarks/methods.py."""
FAMILIES = {'': 'all', 'dense': 'one-stage', 'roi': 'two-stage', 'query': 'queries',
            'mask': 'mask transformers', 'segmentor': 'segmentors', 'solo': 'SOLO',
            'classifier': 'classifiers'}

HEAD = '''# Methods

This page is written by [`docs/generate_methods.py`](generate_methods.py) from the docstrings of
[`mmkd/losses`](../mmkd/losses). Each file there is one method: formula, arguments, sources. The
symbols of a formula are explained in the docstring of its class in that file, which the site of
the documentation shows as [reference](reference/losses.md).

    python -m mmkd train STUDENT.py --teacher TEACHER.py --method NAME    # or a+b: several
    python -m mmkd inspect STUDENT.py TEACHER.py --methods                # which ones fit

`--method` writes the entries that stand below each method, with the values of its authors. There a
tuple such as `on=('neck', 'backbone')` stands for alternatives, of which the first that can be
compared is written, and `if_there=True` leaves out an entry that cannot be compared.
'''


def page() -> str:
    """The text of docs/methods.md."""
    costs = json.loads(COSTS.read_text()) if COSTS.is_file() else {}
    own = [METHODS[name] for name in sorted(METHODS)
           if METHODS[name].module.startswith('mmkd.')]  # without those of other imported modules
    rows = [_row(method, costs.get('methods', {}).get(method.name, {}) if costs else None)
            for method in own]
    head = ['method', 'for', 'needs beside both models',
            *['parameters in training', 'step'] * bool(costs)]
    table = '\n'.join(['| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|', *rows])
    modules: Dict[str, List[Method]] = {}
    for method in own:
        modules.setdefault(method.module, []).append(method)
    note = [f'{costs["note"]} [All figures](results/methods).', ''] if costs else []
    return '\n'.join([HEAD, table, '', *note,
                      *(_section(methods) for methods in modules.values())])


def _row(method: Method, cost: Optional[Dict[str, Any]]) -> str:
    measured = '' if cost is None else f' {cost.get("parameters", "")} | {cost.get("step", "")} |'
    kinds = [FAMILIES[kind] for kind in method.recipes() if kind in FAMILIES]
    families = ', '.join(kinds)
    if kinds[0] == FAMILIES[''] and kinds[1:]:
        families = f'{kinds[0]} (own settings: {", ".join(kinds[1:])})'
    needs = ', '.join(need if ' ' in need or need == 'layers' else f'`{need}`'
                      for need in needs_of(method)) or 'nothing'
    anchor = method.module.rpartition('.')[2]
    return (f'| [`{method.name}`](#{anchor}) | {families} | {needs} |'
            f'{measured}')


def _section(methods: List[Method]) -> str:
    """One file: its card, its classes and what ``--method`` writes."""
    card = card_of(methods[0])
    module = methods[0].module
    name = module.rpartition('.')[2]
    lines = [f'## {name}', '', _markdown(card.summary), '']
    lines += [f'- **{field}**: {_markdown(card.fields[field])}' for field in FIELDS]
    classes = [one.__name__ for one in dict.fromkeys(
        loss for method in methods for loss in losses_of(method)) if one.__module__ == module]
    lines += [f'- **Classes**: {", ".join(f"`mmkd.{one}`" for one in classes)}, with '
              f'their arguments, in [`{name}.py`](../mmkd/losses/{name}.py)' if classes else
              f'- **File**: [`{name}.py`](../mmkd/losses/{name}.py)', '']
    lines[-1:] = [*_configs(methods), *map(_formula, filter(_formulas, classes)), '']
    for loss in classes:
        lines += _arguments(loss)
    for method in methods:
        also = f', or `{method.also}`' if method.also else ''
        lines += [f'`--method {method.name}`{also}:', '', '```python']
        for kind, recipe in method.recipes().items():
            # A kind that is no family is a class of a head.
            lines.append(f'# {FAMILIES.get(kind, kind)}' if kind else '# all other families'
                         if len(method.recipes()) > 1 else '# all families')
            lines += [f'dict({", ".join(f"{key}={_shown(value)}" for key, value in one.items())})'
                      for one in recipe.entries]
            lines += [f'{key} = {value!r}' for key, value in method.around(kind).items()]
        lines += ['```', '']
        if method.prepare:
            lines += ['First stage, `tools/train.py TEACHER.py --prepare ' + method.name + '`:', '',
                      '```python', *(f'dict(type=\'mmkd.Prepare\', module={one.module!r}, '
                                     f'on={one.on!r})  # {FAMILIES[kind]}, {one.iterations} '
                                     'iterations' for kind, one in method.prepare.items()),
                      '```', '']
    return '\n'.join(lines)


def _configs(methods: List[Method]) -> List[str]:
    """Links to the configs of methods: those of their folders, and those with their names."""
    names = dict.fromkeys([*(method.name for method in methods),
                           methods[0].module.rpartition('.')[2]])
    found = sorted({path.relative_to(CONFIGS).as_posix() for name in names
                    for path in (*CONFIGS.glob(f'{name}/*.py'), *CONFIGS.glob(f'*/{name}.py'))})
    links = ', '.join(f'[{path[:-len(".py")]}](../configs/{path})' for path in found)
    return [f'- **Configs**: {links}'] if found else []


def _formulas(name: str) -> List[str]:
    """The formulas in the docstring of a loss that stand as blocks, in LaTeX."""
    text = inspect.cleandoc(LOSSES.classes[name].__doc__ or '')
    found = re.findall(r'^\.\. math::([^\n]*\n(?: +\S[^\n]*\n?|\n(?= +\S))*)', text, re.M)
    return [' '.join(one.split()) for one in found]


def _formula(name: str) -> str:
    """A line with them, as GitHub and the site show it."""
    shown = '; '.join(f'${one}$' for one in _formulas(name))
    return f'- **Formula** of `mmkd.{name}`: {shown}'


def _arguments(name: str) -> List[str]:
    """A folded table of the arguments of a loss, from the docstring of its class."""
    cls = LOSSES.classes[name]
    text = inspect.cleandoc(cls.__doc__ or '')
    found = re.search(r'^Args:\n((?:[ ]{4}.*\n|\n)*)', text + '\n', re.M)
    entries = re.findall(r'^ {4}(\w+) \(.*?\): ((?:.*\n(?: {8}.*\n)*))', found.group(1),
                         re.M) if found else []
    parameters = inspect.signature(cls).parameters
    rows = []
    for argument, meaning in entries:
        meaning = re.sub(r' Defaults\s+to\s+[^,;]*?\.(?= [A-Z]|$)', '', ' '.join(meaning.split()))
        default = parameters[argument].default
        shown = 'required' if default is inspect.Parameter.empty else f'`{default!r}`'
        meaning = _markdown(meaning).replace('|', r'\|')
        rows.append(f'| `{argument}` | {shown} | {meaning} |')
    return [f'<details><summary>Arguments of <code>mmkd.{name}</code></summary>', '',
            '| argument | default | meaning |', '|---|---|---|', *rows, '', '</details>', '',
            ] if rows else []


def _shown(value: Any) -> str:
    """A value of an entry; of alternatives that are dicts the first."""
    if isinstance(value, tuple) and isinstance(value[0], dict):
        return f'({value[0]!r}, ...)' if len(value) > 1 else repr(value[0])
    return repr(value)


def _markdown(text: str) -> str:
    """Links, code and formulas of reStructuredText as in Markdown."""
    text = re.sub(r':math:`([^`]*)`', r'$\1$', text)
    text = re.sub(r':class:`~?(?:mmkd\.)?([^`]*)`', r'`mmkd.\1`', text)
    text = re.sub(r'`([^`<]+?)\s*<([^>`]+)>`__?', r'[\1](\2)', text)
    return text.replace('``', '`')


if __name__ == '__main__':
    PAGE.write_text(page())
    print(f'{PAGE}: {len(METHODS)} methods')
