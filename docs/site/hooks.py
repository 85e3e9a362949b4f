"""What MkDocs does beside its plugins: pages of files outside of docs/, links, formulas."""
import logging
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
from formulas import with_formulas
from places import ROOT, for_the_site, generated_pages, repository_path, source_page

LOG = logging.getLogger('mkdocs.hooks')
PAGES = generated_pages()


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of files outside of docs/."""
    for page, path in PAGES.items():
        text = source_page(path) if page.startswith('source/') else (ROOT / path).read_text()
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links and formulas of a page as the site needs them."""
    name = page.file.src_uri
    path = repository_path(name, PAGES)
    text, lost = for_the_site(markdown, path, name)
    for one in lost:
        LOG.warning(f'{path} links to {one!r}, which is not there')
    # GitHub reads Markdown in HTML behind an empty line, Python-Markdown where it is asked to.
    text = re.sub(r'<(details|div)>', r'<\1 markdown="1">', text)
    text = re.sub(r'<!-- on GitHub -->.*?<!-- /on GitHub -->\n', '', text, flags=re.S)
    return with_formulas(text)
