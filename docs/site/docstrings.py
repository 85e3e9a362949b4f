"""Docstrings of mmkd as the reference shows them."""
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from formulas import as_markdown


class AsMarkdown(griffe.Extension):
    """Markdown in place of reStructuredText, before the docstring is parsed."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
