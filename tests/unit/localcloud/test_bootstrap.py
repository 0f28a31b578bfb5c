"""How the bootstrap chooses a Python and knows that an environment is still good."""

from __future__ import annotations

import sys
from pathlib import Path

from localcloud.bootstrap import (
    clean_environment,
    find_python,
    fingerprint,
    is_wanted_python,
    python_candidates,
)


def make_program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def test_path_comes_before_pyenv_and_newer_before_older(tmp_path: Path) -> None:
    for version in ("3.12.9", "3.13.1", "3.13.5"):
        (tmp_path / "pyenv/versions" / version).mkdir(parents=True)
    environ = {"PATH": "/first::/second", "PYENV_ROOT": str(tmp_path / "pyenv")}
    assert list(python_candidates(environ)) == [
        Path("/first/python3.13"),
        Path("/second/python3.13"),
        tmp_path / "pyenv/versions/3.13.5/bin/python",
        tmp_path / "pyenv/versions/3.13.1/bin/python",
    ]


def test_an_interpreter_is_run_before_it_is_believed(tmp_path: Path) -> None:
    shim = make_program(
        tmp_path / "shims/python3.13", "#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n"
    )
    good = tmp_path / "bin/python3.13"
    good.parent.mkdir()
    good.symlink_to(sys.executable)
    assert not is_wanted_python(shim)
    assert not is_wanted_python(tmp_path / "nowhere")
    environ = {"PATH": f"{shim.parent}:{good.parent}", "HOME": str(tmp_path)}
    assert find_python(environ) == good
    assert find_python({"PATH": str(shim.parent), "HOME": str(tmp_path)}) is None


def test_the_callers_python_set_up_does_not_leak_in() -> None:
    environ = {
        "PATH": "/bin",
        "VIRTUAL_ENV": "/v",
        "PYTHONPATH": "/p",
        "PYENV_VERSION": "3.9",
        "PIP_CERT": "c",
    }
    assert clean_environment(environ) == {"PATH": "/bin", "PIP_CERT": "c"}


def test_new_pins_or_a_moved_checkout_need_a_new_environment(tmp_path: Path) -> None:
    requirements = tmp_path / "dev.txt"
    requirements.write_text("a==1\n")
    before = fingerprint(requirements, tmp_path / "here")
    assert fingerprint(requirements, tmp_path / "here") == before
    assert fingerprint(requirements, tmp_path / "there") != before
    requirements.write_text("a==2\n")
    assert fingerprint(requirements, tmp_path / "here") != before


def test_projects_of_this_checkout_count_too(tmp_path: Path) -> None:
    requirements = tmp_path / "cli.txt"
    requirements.write_text("a==1\n")
    project = tmp_path / "cli"
    project.mkdir()
    (project / "pyproject.toml").write_text("[project]\n")
    before = fingerprint(requirements, tmp_path, [project])
    assert before != fingerprint(requirements, tmp_path)
    (project / "pyproject.toml").write_text("[project]\nname = 'a'\n")
    assert fingerprint(requirements, tmp_path, [project]) != before
