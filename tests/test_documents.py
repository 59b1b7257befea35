"""README, CONTRIBUTING, CHANGELOG and the pages of docs/: links lead somewhere, named files are there, and every
setting is in the tables."""

import re
from pathlib import Path

import pytest
import typer

from docs.settings_tables import EVERYWHERE, MODELS, commands, settings_tables
from sapnet_pipe.pipeline.cli import app
from sapnet_pipe.pipeline.settings_table import settings_table
from tests.places import ROOT

FRONT_PAGE_WORDS = 1200
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:pipeline|stages|data|tests|docs|src)/[\w./*-]*)`")
TABLES = settings_tables()


def of_repository(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as code hosts and mkdocs make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=of_repository)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=of_repository)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # which also speaks of files that are gone
        return
    names = NAMED_FILE.findall(page.read_text(encoding="utf-8"))
    assert [name for name in names if not list(ROOT.glob(name.rstrip("/")))] == []


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= FRONT_PAGE_WORDS


@pytest.mark.parametrize("name", MODELS)
def test_every_setting_of_a_command_is_in_its_tables(name: str) -> None:
    section = TABLES.partition(f"## {name}\n")[2].partition("\n## ")[0]
    for row in settings_table(MODELS[name]):
        (line,) = [line for line in section.splitlines() if line.startswith(f"| `{row.key}`")]
        assert row.description.replace("|", "\\|") in line
        assert f"`{row.shown_default}`" in line or not row.shown_default


def test_every_command_and_every_flag_is_in_the_tables() -> None:
    for name, command in commands(typer.main.get_command(app)):
        assert f"\n## {name}\n" in f"\n{TABLES}"
        flags = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}
        assert {flag for flag in flags - EVERYWHERE if f"`{flag}`" not in TABLES} == set()
