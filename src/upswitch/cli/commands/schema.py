import json

import click

from upswitch.cli.options import Documented
from upswitch.site.schema import schema as schema_of_a_site


@click.command(
    cls=Documented,
    page="site-file",
    examples=[
        ("upswitch schema > upswitch.schema.json", "Beside the site file, where its first line names it."),
    ],
)
def schema() -> int:
    """Print the JSON schema of the site file, for editors.

    Taplo and VS Code (Even Better TOML) then complete the keys of a site file that begins with `#:schema ./upswitch.schema.json`,
    and mark what is wrong. `upswitch init` writes that line.
    """
    click.echo(json.dumps(schema_of_a_site(), indent=2))
    return 0
