"""One file of HTML: its frame, its tables and its folded parts."""
from html import escape
from string import Template
from typing import Any, Optional, Sequence

COLOURS = ('#2563b8', '#c2570c', '#2f7d32', '#a3268c', '#6d5bd0', '#8a6d00', '#0b7f8a', '#b3261e')
DARK_COLOURS = ('#7fb2ff', '#ffab70', '#7fd184', '#f08ddb', '#b7a9ff', '#e0c25a', '#63d3de',
                '#ff8f86')
"""Colours of lines and names, for light and for dark pages."""

FRAME = Template('''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --back: #fff; --text: #1c2126; --faint: #5b6570; --line: #d5dae0;
  --card: #f5f7f9; --good: #22702a; --bad: #a82020; $light }
@media (prefers-color-scheme: dark) { :root { --back: #14181d; --text: #e4e8ec; --faint: #9aa5b1;
  --line: #353d47; --card: #1d232a; --good: #7fd184; --bad: #ff8f86; $dark } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 70rem; background: var(--back);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; font-size: 1.25rem; border-bottom: 1px solid var(--line); }
h3 { margin-bottom: .25rem; font-size: 1rem; }
p, li { max-width: 48rem; overflow-wrap: anywhere; }
.faint, figcaption, caption { color: var(--faint); font-size: .875rem; text-align: left; }
.advice { padding: .75rem 1rem; border-left: .3rem solid var(--c0); background: var(--card); }
.advice strong { font-size: 1.15rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
.grid { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.row { display: grid; gap: .5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr));
  margin-bottom: 1.5rem; }
figure { margin: 0; }
figure img { display: block; width: 100%; border: 1px solid var(--line); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--faint); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--line); stroke-width: 1; fill: none; }
.keys { display: flex; flex-wrap: wrap; gap: .1rem 1rem; padding: 0; margin: .25rem 0;
  list-style: none; font-size: .875rem; }
.keys span { display: inline-block; width: 1.1rem; height: 0; border-top: 3px solid;
  margin: 0 .35rem .25rem 0; }
.keys .dashed { border-top-style: dashed; }
pre { overflow-x: auto; padding: .75rem; background: var(--card); font-size: .8125rem;
  line-height: 1.4; }
summary { cursor: pointer; }
</style>
</head>
<body>
$body
</body>
</html>
''')


def page(title: str, body: Sequence[str]) -> str:
    """The file.

    Args:
        title (str): Plain text.
        body (Sequence[str]): Parts of HTML, in order.
    """
    colours = [''.join(f'--c{n}: {one}; ' for n, one in enumerate(side))
               for side in (COLOURS, DARK_COLOURS)]
    return FRAME.substitute(title=escape(title), light=colours[0], dark=colours[1],
                            body='\n'.join(body))


def colour(number: int) -> str:
    """A colour of CSS, another one for dark pages."""
    return f'var(--c{number % len(COLOURS)})'


def table(titles: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = '') -> str:
    """A table that scrolls sideways on a narrow screen. Numbers are aligned on the right.

    Args:
        titles (Sequence[str]): Titles of the columns.
        rows (Sequence[Sequence]): Strings, numbers or None, for an empty cell.
        caption (str): A sentence above it. Defaults to '', none.

    Example:
        >>> print(table(['model', 'AP'], [['student', 47.9]]))
        <div class="wide"><table>
        <tr><th>model</th><th class="number">AP</th></tr>
        <tr><td>student</td><td class="number">47.9</td></tr>
        </table></div>
    """
    numeric = [any(is_number(row[n]) for row in rows) and all(
        is_number(row[n]) or row[n] in (None, '') for row in rows) for n in range(len(titles))]

    def line(cells: Sequence[Any], tag: str) -> str:
        return '<tr>' + ''.join(
            f'<{tag}{" class=" + chr(34) + "number" + chr(34) if is_right else ""}>'
            f'{escape(shown(cell))}</{tag}>' for cell, is_right in zip(cells, numeric)) + '</tr>'

    above = f'<caption>{escape(caption)}</caption>\n' if caption else ''
    return '\n'.join(['<div class="wide"><table>', above + line(titles, 'th'),
                      *(line(row, 'td') for row in rows), '</table></div>'])


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A cell as text: four digits of a number.

    Example:
        >>> shown(0.51234), shown(51.4), shown(123456.7), shown(None)
        ('0.5123', '51.4', '123457', '')
    """
    if value is None:
        return ''
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 10000 else f'{value:.4g}'
    return str(value)


def folded(title: str, content: str) -> str:
    """A part that is closed at first."""
    return f'<details><summary>{escape(title)}</summary>\n{content}\n</details>'


def code(text: str) -> str:
    """A preformatted block of text."""
    return f'<pre>{escape(text)}</pre>'


def paragraph(text: str, kind: Optional[str] = None) -> str:
    """A paragraph of plain text."""
    return f'<p{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{escape(text)}</p>'


def heading(text: str, level: int = 2) -> str:
    return f'<h{level}>{escape(text)}</h{level}>'
