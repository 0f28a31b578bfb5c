"""`docs/cli.md` says what the command does."""

from __future__ import annotations

import re
from pathlib import Path

import click

import veripost_client
from veripost_cli.app import COMMANDS, cli
from veripost_cli.exits import Exit

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "cli.md").read_text()


def test_every_command_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `veripost ([a-z]+)", PAGE, re.MULTILINE)
    assert set(documented) == set(COMMANDS)


def test_the_options_that_the_page_names_exist() -> None:
    context = click.Context(cli)
    for row in re.findall(r"^\| `veripost ([^|]*) \|(.*)\|$", PAGE, re.MULTILINE):
        name, *rest = row[0].strip("`").split()
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            command = command.commands[rest[0]]
        assert command is not None
        known = {text for option in command.params for text in option.opts}
        assert set(re.findall(r"(--[a-z0-9-]+)", row[1])) <= known, name


def test_every_exit_status_is_documented() -> None:
    assert {int(number) for number in re.findall(r"^\| `(\d+)` \|", PAGE, re.MULTILINE)} == set(Exit)


def test_every_error_of_the_client_is_documented() -> None:
    errors = {
        name
        for name in veripost_client.__all__
        if isinstance(kind := getattr(veripost_client, name), type) and issubclass(kind, Exception)
    }
    assert all(f"`{name}`" in PAGE for name in errors)
