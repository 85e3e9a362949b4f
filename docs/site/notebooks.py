"""A notebook as a page of Markdown: its text, its code, and what came out."""
import json
import re
from typing import Any, Dict, Union


def as_markdown(text: str) -> str:
    """The content of a file of Jupyter as Markdown; pictures are in the page."""
    parts = []
    for cell in json.loads(text)['cells']:
        source = ''.join(cell['source'])
        if cell['cell_type'] == 'markdown':
            parts.append(source)
            continue
        parts.append(fenced(source, 'bash' if source.startswith('%%bash') else 'python'))
        parts += [shown(one) for one in cell['outputs']]
    return '\n\n'.join(parts) + '\n'


def markdown_cells(text: str) -> str:
    """The cells of a file of Jupyter that are text."""
    return '\n\n'.join(''.join(cell['source']) for cell in json.loads(text)['cells']
                       if cell['cell_type'] == 'markdown')


def shown(output: Dict[str, Any]) -> str:
    """One output of a cell: a picture, Markdown, or text."""
    data: Dict[str, Union[str, list]] = output.get('data', {})
    for kind in ('image/png', 'image/jpeg'):
        if kind in data:
            picture = ''.join(data[kind]).replace('\n', '')
            return f'<img alt="What the cell draws" src="data:{kind};base64,{picture}">'
    if 'text/markdown' in data:
        return ''.join(data['text/markdown'])
    return fenced(''.join(output.get('text') or data.get('text/plain', '')), 'text')


def fenced(text: str, language: str) -> str:
    """A block of code, whatever it contains."""
    ticks = '`' * max([3, *(len(one) + 1 for one in re.findall('`+', text))])
    return f'{ticks}{language}\n{text.rstrip()}\n{ticks}'
