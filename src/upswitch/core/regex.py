"""Regular expressions of the site file, matched against what a server says.

RE2 takes time linear in the text. Python's own `re` can be made to run for ever by a body of 40 bytes, and holds everything up
while it does, a way back too.
"""

from typing import Any


def compiled(pattern: str) -> Any:
    """A compiled pattern, with `search`. ValueError says what is wrong with it."""
    import re2  # noqa: PLC0415  (only a site that checks bodies needs it)

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options=options)
    except re2.error as exc:
        why = exc.args[0] if exc.args else exc
        raise ValueError(why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)) from exc
