"""`.env`: settings for the local cloud, handed to the template's parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
QUOTED = re.compile(r"""(["'])(.*?)\1\s*(?:#.*)?""")
PARAMETER = re.compile(r"  ([A-Za-z0-9]+):")


class EnvFileError(ValueError):
    """A line that cannot be read; the message names file and line."""


def read_env_file(file: Path) -> dict[str, str]:
    """Read `NAME=value` lines; comments, `export` and quotes as in a shell, but no expansion."""
    settings = {}
    for number, raw in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise EnvFileError(f"{file}, line {number}: expected NAME=value")
        name, value = match.groups()
        quoted = QUOTED.fullmatch(value)
        settings[name] = quoted[2] if quoted else re.split(r"\s+#", value, maxsplit=1)[0].strip()
    return settings


def parameter_name(setting: str) -> str:
    """Name the template's parameter for a setting: LOG_LEVEL is LogLevel."""
    return "".join(word.capitalize() for word in setting.split("_"))


def template_parameters(template: Path) -> set[str]:
    """List the parameters a template declares, without a parser that knows CloudFormation's tags."""
    names = set()
    inside = False
    for line in template.read_text(encoding="utf-8").splitlines():
        if line and not line[0].isspace() and not line.startswith("#"):
            inside = line.startswith("Parameters:")
        elif inside and (match := PARAMETER.match(line)):
            names.add(match[1])
    return names


def to_parameters(settings: Mapping[str, str], known: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Turn settings into parameters; the second value names the settings for which there is no parameter.

    An empty value means "the template's default".
    """
    parameters, unknown = {}, []
    for setting, value in settings.items():
        if not value:
            continue
        name = parameter_name(setting)
        if name in known:
            parameters[name] = value
        else:
            unknown.append(setting)
    return parameters, unknown
