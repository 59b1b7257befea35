"""Run folders: never overwritten, resumed only as the same run."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from data.errors import UserError
from data.files import read_json
from pipeline.run_folder import RunFolder, open_run


class Settings(BaseModel, frozen=True):
    lr: float = 0.1
    device: str = "auto"


def _open(path: Path, *, resume: bool = False, settings: Settings | None = None, bags: str = "abc") -> RunFolder:
    return open_run(
        path, command="select", settings=settings or Settings(), inputs={"bags": bags}, seed=0, resume=resume
    )


def test_a_new_folder_gets_settings_and_manifest(tmp_path: Path) -> None:
    _open(tmp_path / "run").finish({"miou": 0.5})
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert manifest["status"] == "complete"
    assert manifest["result"] == {"miou": 0.5}
    assert manifest["inputs"] == {"bags": "abc"}
    assert "lr = 0.1" in (tmp_path / "run" / "config.toml").read_text()


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    _open(tmp_path / "run")
    with pytest.raises(UserError, match="--resume"):
        _open(tmp_path / "run")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="something else"):
        _open(tmp_path, resume=True)


def test_resume_goes_on_with_the_same_run_on_another_device(tmp_path: Path) -> None:
    _open(tmp_path / "run")
    _open(tmp_path / "run", resume=True, settings=Settings(device="cpu"))


def test_resume_names_the_changed_setting(tmp_path: Path) -> None:
    _open(tmp_path / "run")
    with pytest.raises(UserError, match=r"lr = 0\.1, but now it is 0\.2"):
        _open(tmp_path / "run", resume=True, settings=Settings(lr=0.2))


def test_resume_names_the_changed_input(tmp_path: Path) -> None:
    _open(tmp_path / "run")
    with pytest.raises(UserError, match=r"inputs\.bags"):
        _open(tmp_path / "run", resume=True, bags="xyz")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="a file, not a folder"):
        _open(tmp_path / "run")
