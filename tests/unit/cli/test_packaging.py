"""What an installation of the command brings along."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import veripost
import veripost_cli

ROOT = Path(__file__).parents[3]


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=@ ]", line, maxsplit=1)[0] for line in requirements}


def _project(folder: str) -> dict[str, object]:
    document = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())
    project: dict[str, object] = document["project"]
    return project


def test_the_environment_of_make_cli_is_what_a_user_gets() -> None:
    wanted = _project("cli")["dependencies"]
    assert isinstance(wanted, list)
    lines = (ROOT / "requirements" / "cli.in").read_text().splitlines()
    pinned = _names([line for line in lines if line[:1].isalpha()])
    assert _names(wanted) - {"veripost"} | {"hatchling", "isal", "pydantic"} == pinned


def test_an_installation_stays_small() -> None:
    assert _project("layers/common")["dependencies"] == []
    pins = (ROOT / "requirements" / "cli.txt").read_text()
    for server in ("sqlalchemy", "boto3", "aws-lambda-powertools", "obstore", "alembic", "pg8000"):
        assert not re.search(rf"^{server}==", pins, re.MULTILINE)


def test_both_are_released_together() -> None:
    assert veripost_cli.__version__ == veripost.__version__
