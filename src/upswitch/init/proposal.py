"""What `init` is asked and what it proposes, as values."""

from upswitch.basics.value import Value
from upswitch.generations.generation import File
from upswitch.init.adopt import Edit
from upswitch.nginx.configuration import ProxiedLocation
from upswitch.site.model import Nginx, Site


class InitRequest(Value):
    """What the owner asks for. Paths are absolute; `pool` is the one that `from_path` holds and that serves now."""

    from_path: str
    pool: str
    nginx: Nginx
    out: str


class Proposal(Value):
    """Everything that a first use would write, and what the owner should add by hand.

    `edit.path` is the file itself, past any symlink. `files` is the whole first generation. `leftover` is the generation that
    a killed init left live, "" without. `undrained` are the locations that need `snippets`; `log_format` is a line to add
    ("" where the log has the generation), `logs` the access logs that should use it. `notes` are for people.
    """

    request: InitRequest
    site: Site
    site_text: str
    generation: str
    files: dict[str, bytes]
    edit: Edit
    diff: str
    backup: str
    leftover: str = ""
    snippets: tuple[File, ...] = ()
    undrained: tuple[ProxiedLocation, ...] = ()
    log_format: str = ""
    logs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
