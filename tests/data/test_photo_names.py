"""Photographs are found by the names that files give them, and folders are walked, as people expect."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from sapnet_pipe.data.errors import FaultReport, UserError
from sapnet_pipe.data.photo_names import check_spelling, find_photograph, photographs_in, skipped_note


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    names = ["a.JPG", "sub/b.png", unicodedata.normalize("NFD", "Café.png"), "two.png", "two.jpg", "exact.png"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10)).save(root / name)
    return root


def _find(folder: Path, name: str) -> str:
    return find_photograph(folder, name, file="f.json", field="file_name").relative_to(folder).as_posix()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("exact.png", "exact.png"),
        ("a.jpg", "a.JPG"),
        ("a.png", "a.JPG"),
        ("sub\\b.png", "sub/b.png"),
        ("photos/sub/b.png", "sub/b.png"),
        ("photos\\Sub\\B.jpeg", "sub/b.png"),
        (unicodedata.normalize("NFC", "Café.png"), unicodedata.normalize("NFD", "Café.png")),
        ("two.tif", "two.tif"),  # two photographs could be meant
        ("other/b.png", "other/b.png"),
        ("b.png", "b.png"),
        (f"{'x' * 251}.png", f"{'x' * 251}.png"),
    ],
)
def test_a_name_leads_to_the_one_photograph_that_can_be_meant(folder: Path, name: str, found: str) -> None:
    assert _find(folder, name) == found


@pytest.mark.parametrize(
    "name", ["/a.JPG", "../a.JPG", "sub/../../a.JPG", "..\\a.JPG", "C:\\a.JPG", "", f"{'x' * 252}.png"]
)
def test_a_name_that_leaves_the_folder_or_is_none_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"f\.json: file_name"):
        find_photograph(folder, name, file="f.json", field="file_name")


def test_other_spellings_are_counted(folder: Path) -> None:
    report = FaultReport("f.json")
    check_spelling(folder, {"a.jpg": "images[0]", "exact.png": "images[1]", "sub\\b.png": "images[2]"}, report)
    (note,) = report.notes()
    assert note.startswith(
        "f.json: 2 photographs are spelled otherwise in the image folder (first images[0] = a.jpg is"
    )


@pytest.mark.parametrize("names", [("a.jpg", "a.png"), ("a.JPG", "a.png")])
def test_two_names_of_one_photograph_are_a_fault(folder: Path, names: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"images\[1\] = a.png, for which a.JPG would be read"):
        check_spelling(folder, {name: f"images[{index}]" for index, name in enumerate(names)}, FaultReport("f.json"))


def test_folders_are_walked_through_links_without_junk(folder: Path, tmp_path: Path) -> None:
    away = tmp_path / "away"
    away.mkdir()
    Image.new("RGB", (20, 10)).save(away / "c.gif")
    (folder / "linked").symlink_to(away)
    (folder / "sub" / "up").symlink_to(folder)  # a circle
    (folder / "__MACOSX").mkdir()
    for name in ("._a.JPG", "__MACOSX/a.png", "notes.txt", "IMG_1.HEIC", "Makefile"):
        (folder / name).write_bytes(b"x")
    names, others = photographs_in(folder)
    assert names == sorted(["a.JPG", "sub/b.png", unicodedata.normalize("NFD", "Café.png"), "two.png", "two.jpg",
                            "exact.png", "linked/c.gif"])  # fmt: skip
    assert {".txt": 1, "without suffix": 1}.items() <= others.items()
    if ".heic" in others:
        assert "1 .heic" in (skipped_note(others) or "")
        assert "pillow-heif" in (skipped_note(others) or "")
    assert skipped_note({}) is None
