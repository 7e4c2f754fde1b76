"""`neurograph-router completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from router.cli.terminal import NAME

_VARIABLE = f"_{NAME.upper().replace('-', '_')}_COMPLETE"


@click.command()
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete this command.

    \b
    bash:  echo 'eval "$(neurograph-router completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(neurograph-router completion zsh)"' >> ~/.zshrc
    fish:  neurograph-router completion fish > ~/.config/fish/completions/neurograph-router.fish
    """  # noqa: D301 - click wants that character
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these"
    click.echo(kind(context.find_root().command, {}, NAME, _VARIABLE).source())
