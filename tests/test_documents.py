"""README, CONTRIBUTING, CHANGELOG and the pages of docs/: links lead somewhere, named files are there, and every
setting is in the tables."""

import re
from pathlib import Path

import pytest

from docs.settings_tables import settings_tables
from sapnet_pipe.pipeline.command import flag_rows, input_rows, models_of
from sapnet_pipe.pipeline.commands import COMMANDS
from sapnet_pipe.pipeline.inputs import Inputs, PlainSettings
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


@pytest.mark.parametrize("name", COMMANDS)
def test_every_setting_of_a_command_is_in_its_tables(name: str) -> None:
    section = TABLES.partition(f"## {name}\n")[2].partition("\n## ")[0]
    _, settings = models_of(COMMANDS[name].load())
    for row in settings_table(settings) if settings is not PlainSettings else []:
        (line,) = [line for line in section.splitlines() if line.startswith(f"| `{row.key}`")]
        assert row.description.replace("|", "\\|") in line
        assert f"`{row.shown_default}`" in line or not row.shown_default


def test_every_command_and_every_flag_is_in_the_tables() -> None:
    for name, entry in COMMANDS.items():
        assert f"\n## {name}\n" in f"\n{TABLES}"
        rows = [row for row in input_rows(entry.load()) if row.key not in Inputs.model_fields]
        flags = {flag for row in [*rows, *flag_rows(entry.load())] for flag in row.flag.split("/")}
        assert {flag for flag in flags - {"", "--device", "--seed"} if f"`{flag}`" not in TABLES} == set()


def flags_of(name: str) -> set[str]:
    rows = [*input_rows(COMMANDS[name].load()), *flag_rows(COMMANDS[name].load())]
    return {flag for row in rows for flag in row.flag.split("/")} | {"--config", "--set", "--help"}


def named_flags(text: str) -> list[tuple[str, str]]:
    """Every command that a page gives with a flag, in the text or in a block: ``select --draw``."""
    code = re.findall(r"`([^`\n]+)`", text) + re.findall(
        r"^.*sapnet-pipe .*$", text.replace("\\\n", " "), flags=re.MULTILINE
    )
    found = []
    for piece in code:
        words = piece.partition("sapnet-pipe ")[2] if "sapnet-pipe " in piece else piece
        name = next((name for name in sorted(COMMANDS, key=len, reverse=True) if words.startswith(f"{name} ")), None)
        if name is not None:
            found += [(name, flag) for flag in re.findall(r"(?<=\s)--[a-z][a-z-]*", words.partition("#")[0])]
    return found


@pytest.mark.parametrize("page", PAGES, ids=of_repository)
def test_every_flag_that_a_page_gives_to_a_command_is_one_of_it(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return
    named = named_flags(page.read_text(encoding="utf-8"))
    assert [pair for pair in named if pair[1] not in flags_of(pair[0])] == []


def test_a_flag_that_a_command_has_not_is_found_in_the_text_and_in_a_block() -> None:
    assert named_flags("draw (`ablate --draw`)") == [("ablate", "--draw")]
    assert named_flags("    sapnet-pipe ablate --draw x  # --not") == [("ablate", "--draw")]
    assert "--draw" in flags_of("select")
    assert "--draw" not in flags_of("report")
