"""Which page of the site shows a file of the repository?

Pages of docs/ are pages of the site. Each other file that a page links has a page of its own
below `source/`, with its text; a folder has a page with its files. So no link leaves the site,
and the site needs no address of the repository.
"""
import posixpath
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

sys.path.insert(0, str(Path(__file__).parent))
from notebooks import as_markdown, fenced, markdown_cells

ROOT = Path(__file__).resolve().parents[2]
MOVED = {'README.md': 'index.md', 'CONTRIBUTING.md': 'contributing.md',
         'CHANGELOG.md': 'changelog.md'}
"""Pages of the site that are kept elsewhere, because GitHub looks for them there."""
LINK = re.compile(r'(?P<before>\]\()(?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?(?P<after>\))')
CODE = re.compile(r'^(`{3,}|~{3,}).*?^\1[ \t]*$|(?<!`)(`+)(?!`).*?(?<!`)\2(?!`)', re.M | re.S)
LANGUAGES = {'.py': 'python', '.sh': 'bash', '.yml': 'yaml', '.json': 'json', '.toml': 'toml'}
HIDDEN = '---\nsearch:\n  exclude: true\n---\n\n'


def page_of(path: str) -> str:
    """The page of the site for a path of the repository, which may be a folder.

    Args:
        path (str): Relative to the repository, with slashes: 'mmkd/losses/pkd.py', 'docs/zoo.md'.

    Returns:
        str: Path of the page below docs/: 'source/mmkd/losses/pkd.py.md', 'zoo.md'.

    Raises:
        FileNotFoundError: If the repository has no such file.
    """
    if not (ROOT / path).exists():
        raise FileNotFoundError(path)
    if (ROOT / path).is_dir():
        readme = posixpath.join(path, 'README.md')
        if path.startswith('docs/') and (ROOT / readme).exists():
            return page_of(readme)
        return f'source/{path}/index.md'
    if path in MOVED:
        return MOVED[path]
    if path.startswith('docs/') and not path.endswith(('.py', '.ipynb')):
        return path[len('docs/'):]
    return f'source/{path}' if path.endswith('.md') else f'source/{path}.md'


def links(text: str) -> Iterator['re.Match[str]']:
    """Links of a text in Markdown, without those in code."""
    blank = CODE.sub(lambda found: ' ' * len(found[0]), text)
    for found in LINK.finditer(blank):
        if not re.match(r'[a-z]+:|/', found['target']):
            yield found


def target_of(found: 're.Match[str]', path: str) -> str:
    """The path in the repository that a link of the file at ``path`` points to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), found['target']))


def for_the_site(text: str, path: str, page: str) -> Tuple[str, List[str]]:
    """The text of a file with links between pages of the site.

    Args:
        text (str): Markdown.
        path (str): Of the file in the repository; its links are relative to its folder.
        page (str): Of the page that shows it.

    Returns:
        tuple[str, list[str]]: The text, and the links that lead nowhere.
    """
    parts, at, lost = [], 0, []
    for found in links(text):
        if not found['target']:
            continue
        try:
            other = page_of(target_of(found, path))
        except FileNotFoundError:
            lost.append(found['target'])
            continue
        start, end = found.span('target')
        parts += [text[at:start], posixpath.relpath(other, posixpath.dirname(page) or '.')]
        at = end
    return ''.join([*parts, text[at:]]), lost


def source_page(path: str) -> str:
    """The text of the page of a file, or of a folder, outside of docs/."""
    file = ROOT / path
    if file.is_dir():
        readme = file / 'README.md'
        head = readme.read_text() if readme.exists() else f'# {path}\n'
        rows = [f'- [{one.name}]({one.name})' for one in _listed(file)]
        return HIDDEN + '\n'.join([head, '', '## Files', '', *rows, ''])
    text = file.read_text()
    if path.endswith('.md'):
        return HIDDEN + text
    if path.endswith('.ipynb'):
        return as_markdown(text)
    return f'{HIDDEN}# {path}\n\n{fenced(text, LANGUAGES.get(file.suffix, "text"))}\n'


def _listed(folder: Path) -> List[Path]:
    return sorted(one for one in folder.iterdir() if one.suffix in LANGUAGES and one.is_file())


def generated_pages() -> Dict[str, str]:
    """All pages that are not files of docs/: by page, the path in the repository."""
    found: Dict[str, str] = {page: path for path, page in MOVED.items()}
    waiting = [*MOVED, *(str(one.relative_to(ROOT)) for one in (ROOT / 'docs').rglob('*.md'))]
    while waiting:
        path = waiting.pop()
        for target in _targets(path):
            page = page_of(target)
            if page.startswith('source/') and page not in found:
                found[page] = target
                waiting.append(target)
    return found


def text_of(path: str) -> str:
    """The Markdown of a page or of a notebook, where links are looked for."""
    text = (ROOT / path).read_text()
    return markdown_cells(text) if path.endswith('.ipynb') else text


def _targets(path: str) -> Iterator[str]:
    """Paths that the page of a path links, as far as they are there."""
    file = ROOT / path
    if file.is_dir() or path.endswith(('.md', '.ipynb')):
        text = source_page(path) if file.is_dir() else text_of(path)
        base = f'{path}/README.md' if file.is_dir() else path
        for found in links(text):
            target = target_of(found, base) if found['target'] else path
            if target and (ROOT / target).exists():
                yield target


def repository_path(page: str, generated: Dict[str, str]) -> Optional[str]:
    """The file of which links are relative to its folder, for a page of the site."""
    path = generated.get(page)
    if path is None:
        return f'docs/{page}'
    return f'{path}/README.md' if (ROOT / path).is_dir() else path
