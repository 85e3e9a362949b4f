"""How are formulas shown without a script? As MathML, which browsers know."""
import re
from typing import Any

from latex2mathml.converter import convert
from places import CODE

DOLLARS = re.compile(r'(?<![\\$\w])\$(?P<formula>[^$\n]+?)\$(?![\w$])')
WORDS = re.compile(r'\b(?<!\\)(?:softmax|KL|LD|IoU|DIoU|main|valuable|inter|intra|mean|act|kd|'
                   r'unit)\b')


def mathml(formula: str, is_block: bool = False) -> str:
    """A formula of LaTeX as MathML in one line, safe inside of Markdown."""
    formula = WORDS.sub(r'\\mathrm{\g<0>}', formula).replace(r'\mathrm{\mathrm', r'\mathrm{{')
    formula = formula.replace(r'\textstyle', '').replace(r'\lVert', r'\|').replace(r'\rVert', r'\|')
    text = convert(' '.join(formula.split()), display='block' if is_block else 'inline')
    return text.replace('_', '&#95;').replace('*', '&#42;').replace('`', '&#96;')


def with_formulas(text: str) -> str:
    """A text of Markdown with its ``$...$`` as MathML, but for those in code."""
    parts, at = [], 0
    for code in CODE.finditer(text):
        parts += [_replaced(text[at:code.start()]), code[0]]
        at = code.end()
    return ''.join([*parts, _replaced(text[at:])])


def _replaced(text: str) -> str:
    return DOLLARS.sub(lambda found: f'<span class="math">{mathml(found["formula"])}</span>', text)


def as_markdown(text: str) -> str:
    """A docstring in reStructuredText as Markdown: formulas, links, names, lists, code."""
    def block(found: Any) -> str:
        inside = re.sub(r'\s+', ' ', found['formula']).strip()
        return f'{found["indent"]}<div class="math">{mathml(inside, True)}</div>\n'

    text = re.sub(r'^(?P<indent> *)\.\. math::(?P<formula>[^\n]*\n(?:(?P=indent) +\S[^\n]*\n?)*)',
                  block, text, flags=re.M)
    text = re.sub(r':math:`([^`]*)`', lambda found: '<span class="math">'
                  f'{mathml(found[1])}</span>', text)
    text = re.sub(r':(?:class|func|meth|mod|data|attr|obj):`~?([^`]*)`', r'`\1`', text)
    text = re.sub(r'`([^`<]+?)\s*<([^>`]+)>`__?', r'[\1](\2)', text)
    text = re.sub(r'^Example:$', 'Examples:', text.replace('``', '`'), flags=re.M)
    return re.sub(r'^( *)(.*[^:\s]):: *$', r'\1\2:', text, flags=re.M)
