"""What a deploy depends on, and what it is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localcloud import sam

ROOT = Path(__file__).resolve().parents[3]


def make_project(folder: Path) -> Path:
    (folder / "functions/a").mkdir(parents=True)
    (folder / "functions/a/app.py").write_text("1")
    (folder / "template.yaml").write_text("{}")
    (folder / "samconfig.toml").write_text(
        '[local.deploy.parameters]\nstack_name = "s"\nparameter_overrides = ["A=1", "B=\\"two words\\""]\n'
    )
    return folder


def test_only_what_is_deployed_counts(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    before = sam.fingerprint(project, {"A": "1"})
    (project / "functions/a/__pycache__").mkdir()
    (project / "functions/a/__pycache__/app.cpython-313.pyc").write_text("x")
    (project / "README.md").write_text("x")
    assert sam.fingerprint(project, {"A": "1"}) == before
    assert sam.fingerprint(project, {"A": "2"}) != before
    (project / "functions/a/app.py").write_text("2")
    assert sam.fingerprint(project, {"A": "1"}) != before


def test_the_configured_overrides_are_read(tmp_path: Path) -> None:
    assert sam.configured_overrides(make_project(tmp_path)) == {"A": "1", "B": "two words"}


def test_our_own_samconfig_names_a_local_stack() -> None:
    assert sam.config(ROOT, "local")["stack_name"] == "veripost-local"
    assert sam.configured_overrides(ROOT)["Environment"] == "local"


def test_the_users_aws_account_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "real")
    monkeypatch.setenv("NO_PROXY", "example.com")
    environment = sam.aws_environment("http://127.0.0.1:1", Path("/private"))
    assert "AWS_PROFILE" not in environment
    assert "AWS_SESSION_TOKEN" not in environment
    assert environment["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1"
    assert environment["AWS_CONFIG_FILE"] == os.devnull
    assert environment["NO_PROXY"] == "127.0.0.1,localhost,example.com"
