"""Which module's `check` an nginx takes, by what it says of one line (scripts.check_probe)."""

from upswitch.core.words import Dialect

_UNKNOWN_DIRECTIVE = b'unknown directive "check"'
_UNKNOWN_PARAMETER = b'invalid parameter "unique=false"'


def judge(exit_code: int | None, err: bytes) -> Dialect | None:
    """Tengine's takes `unique=`, yaoweibin's does not know it, nginx alone has no `check`. None: the answer is another one."""
    if exit_code == 0:
        return Dialect.TENGINE
    if _UNKNOWN_DIRECTIVE in err:
        return Dialect.NONE
    return Dialect.YAOWEIBIN if _UNKNOWN_PARAMETER in err else None
