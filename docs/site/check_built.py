"""Is the built site whole? Each link has its page and its place; nothing is loaded from a network.

    python docs/site/check_built.py site
"""
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple
from urllib.parse import unquote, urlsplit

LOADS = {('script', 'src'), ('img', 'src'), ('iframe', 'src'), ('source', 'src'), ('link', 'href')}
NO_LOADS = {'canonical', 'prev', 'next', 'edit', 'alternate'}


class Page(HTMLParser):
    """The names of places of a page, what it loads, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: Set[str] = set()
        self.loads: List[str] = []
        self.links: List[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: List[Tuple[str, Optional[str]]]) -> None:
        found = {name: value or '' for name, value in attributes}
        self.places |= {found[name] for name in ('id', 'name') if name in found}
        for name, value in found.items():
            if (tag, name) in LOADS and found.get('rel') not in NO_LOADS:
                self.loads.append(value)
            elif (tag, name) == ('a', 'href'):
                self.links.append(value)


def faults(site: Path) -> List[str]:
    """One line for each link that leads nowhere, and for each thing that comes from a network."""
    pages = {path.resolve(): Page(path.read_text()) for path in site.rglob('*.html')}
    found = []
    for path, page in pages.items():
        if path.name == '404.html':  # its links begin at the root of a server
            continue
        name = path.relative_to(site.resolve())
        found += [f'{name}: loads {one}' for one in page.loads if urlsplit(one).netloc]
        found += [f'{name}: no {one}' for one in [*page.links, *page.loads]
                  if not _leads(one, path, pages)]
    return sorted(set(found))


def _leads(link: str, path: Path, pages: Dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= 'index.html'
    if not target.is_file():
        return False
    place = unquote(parts.fragment)
    return not place or target not in pages or place in pages[target].places or (
        place.startswith('__'))


if __name__ == '__main__':
    folder = Path(sys.argv[1])
    lines = faults(folder)
    print('\n'.join(lines) or f'{folder}: {len(list(folder.rglob("*.html")))} pages, every link '
          'leads to its place, nothing comes from a network')
    sys.exit(bool(lines))
