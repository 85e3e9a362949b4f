"""Which figures by class has a log in text?"""
import re
from typing import Dict, List, Optional

TABLE = re.compile(r'^[+|].*[+|]$')


def class_table(text: str) -> Dict[str, Dict[str, float]]:
    """The last table by class in a log of mmseg ('Class') or mmdet ('category').

    Example:
        >>> class_table('''
        ... +-------+------+
        ... | Class | IoU  |
        ... +-------+------+
        ... |  road | 90.5 |
        ... |  sky  | nan  |
        ... +-------+------+''')
        {'road': {'IoU': 90.5}}
    """
    found: Dict[str, Dict[str, float]] = {}
    titles: List[str] = []
    for line in text.splitlines():
        line = line.strip()
        if not TABLE.match(line):
            titles = []
            continue
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if cells[0] in ('Class', 'category'):
            titles, found = cells, {}
        elif titles and len(cells) == len(titles) and not line.startswith('+'):
            factor = 100 if titles[0] == 'category' else 1
            values = {title: factor * number for title, cell in zip(titles[1:], cells[1:])
                      if (number := _number(cell)) is not None}
            if values:
                found[cells[0]] = values
    return found


def _number(cell: str) -> Optional[float]:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if value == value else None
