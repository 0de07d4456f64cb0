"""Reading [[notify]] and [hooks]. URLs and headers may hold secrets: no problem shows their value."""

import re

from upswitch.site import values
from upswitch.site.telling import Event, Hooks, Notice, Secret
from upswitch.site.values import Reader

_MOST = 20  # targets
_LONGEST = 30.0  # seconds that the end of a command may wait for notices
_TEMPLATE = values.path_or(r"[a-z][a-z0-9_]{0,31}", "must be slack, teams, another name of templates/notify, or an absolute path")
_URL = re.compile(r"https?://[!-~]{1,4000}")
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_LINE = re.compile(r"[\t -~]{1,4000}")
_WORD = values.matching(r"[^\x00-\x1f\x7f]{1,4000}", "must be a list of words without control characters")
_WHERE = '{ file = "/PATH" } or { env = "NAME" }'


def notices(reader: Reader) -> tuple[Notice, ...]:
    """Every target of the site file, in its order."""
    tables = reader.tables("notify", most=_MOST)
    return tuple(_notice(each) for each in tables)


def hooks(reader: Reader) -> Hooks:
    default = Hooks()
    found = {name: reader.each(name, (), _WORD) for name in ("before_switch", "after_switch", "rolled_back", "held", "stuck")}
    for name, argv in found.items():
        if argv and not argv[0].startswith("/"):
            reader.refuse(name, values.shown(argv[0]), "must begin with the absolute path of a program")
    return Hooks(**found, timeout=reader.take("timeout", default.timeout, values.some_seconds))


def _notice(reader: Reader) -> Notice:
    default = Notice(url=Secret())
    url = reader.take("url", None, _url, is_secret=True)
    if url is None and not reader.is_refused("url"):
        reader.refuse("url", "(none)", f"must be a URL in quotes, {_WHERE}")
    return Notice(
        url=url or default.url,
        template=reader.take("template", default.template, _TEMPLATE),
        headers=reader.take("headers", default.headers, _headers, is_secret=True),
        on=reader.each("on", default.on, values.word(Event)),
        timeout=reader.take("timeout", default.timeout, _timeout),
    )


def _url(value: object) -> Secret:
    return _secret(value, _URL, "an http:// or https:// URL without spaces")


def _headers(value: object) -> tuple[tuple[str, Secret], ...]:
    if not isinstance(value, dict) or not all(_HEADER.fullmatch(name) for name in value):
        raise ValueError("must be a table of headers by their names")
    return tuple((name, _secret(each, _LINE, "one line of printable ASCII")) for name, each in value.items())


def _secret(value: object, pattern: re.Pattern[str], kind: str) -> Secret:
    match value:
        case str() if pattern.fullmatch(value):
            return Secret(text=value)
        case {"file": str(path), **rest} if not rest:
            return Secret(file=values.path(path))
        case {"env": str(name), **rest} if not rest and _ENV.fullmatch(name):
            return Secret(env=name)
    raise ValueError(f"must be {kind}, {_WHERE}")


def _timeout(value: object) -> float:
    found = values.some_seconds(value)
    if found > _LONGEST:
        raise ValueError(f"must be at most {_LONGEST:g}s: the end of a command waits for it")
    return found
