"""`veripost completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "fish", "zsh"]))
@click.pass_context
def completion_command(context: click.Context, *, shell: str) -> None:
    """Print the completion script for a shell: bash, zsh or fish.

    \b
    bash   eval "$(veripost completion bash)"                              in ~/.bashrc
    zsh    eval "$(veripost completion zsh)"                               in ~/.zshrc
    fish   veripost completion fish > ~/.config/fish/completions/veripost.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"{shell} is not known.")
    click.echo(kind(context.find_root().command, {}, "veripost", "_VERIPOST_COMPLETE").source())
