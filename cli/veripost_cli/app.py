"""The `veripost` command. Subcommands are imported when they are called: help and completion stay quick."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final, override

import click
from click.shell_completion import CompletionItem

from veripost_cli import __version__

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "login": ("account", "Store the address and the API key to use."),
    "logout": ("account", "Forget what login stored."),
    "check": ("check", "Check packages on this machine, as the server would."),
    "upload": ("upload", "Send packages."),
    "list": ("packages", "List packages."),
    "show": ("packages", "Show a package: files, findings and jobs."),
    "wait": ("packages", "Wait until packages are ready or refused."),
    "download": ("download", "Download a package's files, verified."),
    "verify": ("download", "Compare the files in a folder with a package's record."),
    "search": ("contents", "Find packages by what is in them."),
    "diff": ("contents", "Tell how two packages differ."),
    "replay": ("packages", "Process a package's original again."),
    "rm": ("packages", "Delete packages."),
    "keys": ("keys", "Make, list and revoke API keys."),
    "doctor": ("doctor", "Compare what the server stores with what it has recorded."),
    "completion": ("completion", "Print the script that makes a shell complete commands and options."),
}
"""Name, module below `commands`, and the line that `--help` shows."""


class Commands(click.Group):
    """A group that imports a subcommand only when it is run."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"veripost_cli.commands.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, f"{cmd_name}_command")
        return found

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    @override
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names without importing any; options as click does."""
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=line)
            for name, (_, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--url", metavar="URL", help="Address of VeriPost's API; beats VERIPOST_URL and login.")
@click.version_option(__version__, prog_name="veripost")
def cli(url: str | None) -> None:
    """Send packages of CNC post-processor files to VeriPost, and get them back byte for byte.

    The API key comes from `veripost login` or VERIPOST_API_KEY, never from the command line.
    """


def main() -> None:
    """Run the command line and end the process with its exit status."""
    from veripost_cli.exits import Exit  # completion does without

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # ✓ on a console that has none
    status: int
    try:
        status = cli.main(prog_name="veripost", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("veripost: interrupted", file=sys.stderr)
        status = Exit.INTERRUPTED
    except BrokenPipeError:
        # Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = Exit.BROKEN_PIPE
    sys.exit(status)
