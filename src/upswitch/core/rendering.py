"""What goes into a rendering and what comes out, without the engine between them (jinja2 takes 60 ms to import)."""

from upswitch.core.standby import Standby
from upswitch.core.words import Dialect, Value

MARKER = "marker.conf"


class File(Value):
    """One file of a generation; `name` is bare."""

    name: str
    text: str


class Rendering(Value):
    """What one generation is besides the site. `min_timeout`, `drain_flag` and `check_shm_size` "" leave their lines out."""

    generation: str
    pool: str
    min_timeout: str
    drain_flag: str
    stub_status: bool
    dialect: Dialect = Dialect.NONE
    check_shm_size: str = ""
    standbys: tuple[Standby, ...] = ()
