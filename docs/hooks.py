"""What `make docs` adds to the pages of this folder: the files at the top of the repository, and the settings.

README.md, CONTRIBUTING.md and CHANGELOG.md become pages of the site, with their links turned so that the same text
works on a code host and here. The tables of settings are made from the settings models, so they cannot go stale.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from settings_tables import settings_tables  # mkdocs puts this folder on the path for as long as it loads us

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
SETTINGS_MARK = "<!-- the tables of settings stand here -->"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the pages that lie at the top of the repository."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_from_top(text)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn links to the top of the repository, and put the tables of settings where the mark is."""
    for source, target in PAGES.items():
        markdown = markdown.replace(f"](../{source}", f"]({target}")
    return markdown.replace(SETTINGS_MARK, settings_tables()) if SETTINGS_MARK in markdown else markdown


def _from_top(text: str) -> str:
    """The links of a page that moves from the top of the repository into docs/."""
    for source, target in PAGES.items():
        text = text.replace(f"]({source}", f"]({target}")
    return re.sub(r"\]\(docs/", "](", text)
