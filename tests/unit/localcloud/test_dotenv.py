"""Reading `.env` and handing it to the template."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.dotenv import EnvFileError, parameter_name, read_env_file, template_parameters, to_parameters

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("NAME=value", "value"),
        ("  export NAME = value  ", "value"),
        ("NAME=", ""),
        ("NAME=value # why", "value"),
        ("NAME=a#b", "a#b"),
        ('NAME="a # b"', "a # b"),
        ("NAME='a b' # why", "a b"),
        ("NAME=postgresql://u:p%40@h:5/d?x=y", "postgresql://u:p%40@h:5/d?x=y"),
    ],
)
def test_a_line_is_read_as_a_shell_would(tmp_path: Path, line: str, value: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"# a comment\n\n{line}\n")
    assert read_env_file(file) == {"NAME": value}


def test_a_line_that_is_no_setting_is_named(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("GOOD=1\nnot a setting\n")
    with pytest.raises(EnvFileError, match=r"\.env, line 2: expected NAME=value"):
        read_env_file(file)


def test_settings_become_the_parameters_that_the_template_has() -> None:
    known = {"LogLevel", "S3EndpointUrl"}
    settings = {"LOG_LEVEL": "DEBUG", "S3_ENDPOINT_URL": "", "COLOUR": "red"}
    assert to_parameters(settings, known) == ({"LogLevel": "DEBUG"}, ["COLOUR"])


def test_the_parameters_of_our_own_template_are_found() -> None:
    found = template_parameters(ROOT / "template.yaml")
    assert {"Environment", "LogLevel", "DatabaseSecretArn", "IngestTimeoutSeconds"} <= found
    assert "IncomingBucket" not in found
    assert parameter_name("S3_PUBLIC_ENDPOINT_URL") in found
