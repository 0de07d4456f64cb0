"""Which module's `check` an nginx takes, by what it says of one line (scripts.check_probe), and no line after it."""

from upswitch.core.words import Dialect

END = "upswitch_end"
"""A directive that no nginx knows: where it is what is complained of, all before it passed."""

_UNKNOWN_DIRECTIVE = b'unknown directive "check"'
_UNKNOWN_PARAMETER = b'invalid parameter "unique=false"'


def judge(err: bytes) -> Dialect | None:
    """Tengine's takes `unique=`, yaoweibin's does not know it, nginx alone has no `check`. None: the answer is another one."""
    if f'unknown directive "{END}"'.encode() in err:
        return Dialect.TENGINE
    if _UNKNOWN_DIRECTIVE in err:
        return Dialect.NONE
    return Dialect.YAOWEIBIN if _UNKNOWN_PARAMETER in err else None
