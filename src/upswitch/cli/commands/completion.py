import click

from upswitch.cli import completion as words
from upswitch.cli.options import Documented


@click.command(
    cls=Documented,
    page="environment",
    examples=[
        ("source <(upswitch completion bash)", "A line for ~/.bashrc."),
        ("source <(upswitch completion zsh)", "A line for ~/.zshrc, after compinit."),
        ("upswitch completion fish | source", "A line for ~/.config/fish/config.fish."),
    ],
)
@click.argument("shell", type=click.Choice(words.SHELLS))
def completion(shell: str) -> int:
    """Print what completes words in bash, zsh or fish.

    The shell then completes commands, options, and the names of pools, sites, hosts and pages, for `upswitch` and for `switch`.
    """
    click.echo(words.program(shell))
    return 0
