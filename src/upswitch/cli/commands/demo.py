import click

from upswitch.cli.invocation import json_option
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, with_program


@click.command(
    cls=Documented,
    page="tour",
    examples=[
        ("upswitch demo", "A good release, then a bad one."),
        ("upswitch demo --keep", "Keep the logs and the journal."),
    ],
)
@json_option
@click.option("--keep", is_flag=True, help="Keep the folder with its logs, journal and generations.")
@click.option("--nginx", "binary", default="", metavar="PATH", help="Use this nginx, not the first that is found here.")
@with_program
def demo(program: Program, /, *, as_json: bool, keep: bool, binary: str) -> int:
    """Show upswitch at work on a private nginx, in under a minute.

    Two pools of servers and a load, all on loopback: a good release, then a bad one that upswitch rolls back.
    """
    from upswitch_lab.demo import play

    return program.show(play(binary, keep=keep, as_json=as_json), as_json=as_json)
