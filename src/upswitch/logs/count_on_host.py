"""Access logs counted where they lie: an awk program made of a `log_format`, and its answer read back.

Theory. A busy log grows by 20 MB/s, which no link to fifty hosts carries. What decides about a line are a few short values
(status, addresses, upstream statuses, generation), and few different ones: those are counted over there and sent once, with how
often. Each comes back as a line of the same format (`Alike`), with nothing where nothing decides: so whoever judges lines judges
it as he would have judged the lines themselves, and there is no second set of rules.

The program counts only lines that can be read in one way. Its expression is narrower than format_regex.py's: no value contains the
first character of the literal behind it, so every value ends at the first one. format_regex.py finds the same by trying.
Any other line is sent whole, and so are those of requests that did not go well, which the diagnosis wants to see: so many of them
in each pass, the others are counted.

It runs in any POSIX awk with LC_ALL=C. No intervals (`{3}`): mawk 1.3.4 of 2020 has none.
"""

import re
from collections.abc import Collection, Mapping

from upswitch.hosts.count_program import CountProgram, counting
from upswitch.logs.entries import MOST_CLIENTS, SAMPLED
from upswitch.logs.format_regex import Part
from upswitch.logs.line import CLIENT_LEFT, HUNG_S, MAX_LINE, LineReader

_WANTED = (
    *("status", "upstream_status", "upstream_addr", "upswitch_generation"),
    *("request_time", "upstream_header_time", "request_completion"),
)
_NAMED = "named < 16"
_NAMED_OF_MINUTES = f"named < {SAMPLED} || (named < 2000 && NR % 97 == 0)"
"""The lines of good requests whose client is sent: of one look, and of ten minutes."""

_CLOCKS = ("msec", "time_iso8601", "time_local")

_D = "[0-9]"
_SECONDS = rf"{_D}+\.{_D}{_D}{_D}"
_LOCAL = rf"{_D}{_D}\/[A-Z][a-z][a-z]\/{_D}{_D}{_D}{_D}:{_D}{_D}:{_D}{_D}:{_D}{_D} [+-]{_D}{_D}{_D}{_D}"
_ISO = rf"{_D}{_D}{_D}{_D}-{_D}{_D}-{_D}{_D}T{_D}{_D}:{_D}{_D}:{_D}{_D}[+-]{_D}{_D}:{_D}{_D}"
_FIXED = {"status": (3, _D * 3), "time_local": (26, _LOCAL), "time_iso8601": (25, _ISO)}
"""Width and shape."""
_NUMBERS = {
    **dict.fromkeys(("msec", "request_time"), _SECONDS),
    **dict.fromkeys(("body_bytes_sent", "bytes_sent", "request_length", "connection", "connection_requests", "pid"), f"({_D}+|-)?"),
    "pipe": "([.p]|-)?",
    "request_completion": "(OK|-)?",
}
_WORD = r"[A-Za-z0-9_.:\/-]*"
_WORDS = {
    **dict.fromkeys(("remote_addr", "remote_port", "server_addr", "server_port", "request_id", "request_method"), _WORD),
    **dict.fromkeys(("server_protocol", "scheme", "upswitch_pool"), _WORD),
    "upswitch_generation": "[A-Za-z0-9_-]*",
}
_LISTS = {
    "upstream_status": f"(-|{_D}{_D}?{_D}?)",
    **dict.fromkeys(("upstream_header_time", "upstream_response_time", "upstream_connect_time"), f"(-|{_SECONDS})"),
    **dict.fromkeys(("upstream_bytes_sent", "upstream_bytes_received", "upstream_response_length"), f"(-|{_D}+)"),
    "upstream_addr": r"(-|[[A-Za-z0-9_][][A-Za-z0-9_.:\/@~+=%-]*)",
}
_IN_VALUES = re.compile(rb"[\w.:/\[\],@~+=%-]")
"""What any shape but free text may contain, besides the separators of lists."""
_SPECIAL = {**{char: "\\" + char for char in r".[]()*+?|^$\/"}, "{": "[{]", "}": "[}]", "\t": r"\t"}
_PLAIN = re.compile(rb"[\t -~]*")


def count_program(reader: LineReader, *, is_timed: bool = False, mark: bytes = b"") -> CountProgram | None:
    """Counts lines of this format by what decides, and by second if `is_timed`. None where the format can't be counted so.
    Lines that hold `mark` are sent whole.

    That is one with escape=none, with a variable right behind another, with a literal that the value before it may contain, or
    without a status.
    """
    if not _is_countable(reader) or reader.variables.isdisjoint({"status", "upstream_status"}):
        return None
    first = {part.variable: at for at, part in reversed([*enumerate(reader.parts)]) if part.variable}
    clock = next(filter(first.__contains__, _CLOCKS), "") if is_timed else ""
    names = [name for name in (*_WANTED, clock) if name in first]
    taken = {name: _taken(reader.parts, first[name]) for name in names}
    client = _naming(_taken(reader.parts, first["remote_addr"]), is_timed=is_timed) if "remote_addr" in first else _UNNAMED
    whole = f'index($0, "{mark.decode()}") {{ print "\\t" $0; next }}\n' if mark else ""
    awk = counting(f"{whole}{_line(reader)}\nsize <= {MAX_LINE} && /{_pattern(reader.parts)}/ {{\n{_counting(taken, client)}}}\n")
    return CountProgram(
        awk=awk,
        parts=tuple((part.variable, part.literal) for part in reader.parts),
        wanted=tuple(first[name] for name in (*names, "remote_addr") if name in first),
    )


# ---- which formats ----


def _is_countable(reader: LineReader) -> bool:
    literals = b"".join(part.literal for part in reader.parts)
    is_readable = _PLAIN.fullmatch(literals) and not (reader.escape == "json" and b"\\" in literals)
    behind = [*reader.parts[1:], Part(variable="", literal=b"")]
    is_delimited = all(map(_ends, reader.parts, behind))
    return bool(is_readable) and is_delimited and reader.escape != "none"


def _ends(part: Part, behind: Part) -> bool:
    """Whether a value ends at the first character of its literal, whatever the value is."""
    name, literal = part.variable, part.literal
    if name == "" or name in _FIXED:
        return True
    if not literal:
        return behind.variable == ""
    if name in _LISTS and literal.startswith(b" "):
        return _is_no_separator(literal, behind)
    return not ((name in _LISTS or name in _NUMBERS or name == "upswitch_generation") and _IN_VALUES.match(literal))


def _is_no_separator(literal: bytes, behind: Part) -> bool:
    """A blank behind a list: what follows must not make ` : ` of it, which is within a list."""
    if literal != b" ":
        return not literal.startswith(b" :")
    is_shaped = behind.variable in {*_FIXED, *_NUMBERS, *_LISTS, "upswitch_generation", ""}
    return is_shaped and not behind.literal.startswith(b":")


# ---- the expression ----


def _pattern(parts: tuple[Part, ...]) -> str:
    """The lines that can be read in one way; not anchored at the end where the last variable may be anything."""
    last = parts[-1]
    shapes = (_shape(part) + "".join(_SPECIAL.get(char, char) for char in part.literal.decode()) for part in parts)
    return "^" + "".join(shapes) + ("$" if last.literal or _own_shape(last) else "")


def _shape(part: Part) -> str:
    return _own_shape(part) or (f"[^{_in_class(part.literal[:1].decode())}]*" if part.variable and part.literal else "")


def _own_shape(part: Part) -> str:
    """ "" where it is taken as free text: one quoted list costs as much as all the rest, so those are checked once a value."""
    name, follower = part.variable, part.literal[:1]
    if name in _FIXED:
        return _FIXED[name][1]
    if name in _LISTS:
        return f"({_LISTS[name]})?" if follower in {b" ", b""} else ""
    is_word = name in _WORDS and not (follower and _IN_VALUES.match(follower))
    return _WORDS[name] if is_word else _NUMBERS.get(name, "")


def _in_class(follower: str) -> str:
    """Within [^...]: what follows a value, and a quote, which no value contains: fields are told by it."""
    return {'"': '"', "\\": '\\\\"', "/": '\\/"', "\t": '\\t"'}.get(follower, follower + '"')


# ---- the values ----


def _line(reader: LineReader) -> str:
    """A quote within a value of JSON is not to end a field."""
    return r'{ line = $0; if (index(line, "\\")) gsub(/\\[\\"]/, "\001") }' if reader.escape == "json" else "{ line = $0 }"


def _taken(parts: tuple[Part, ...], at: int) -> str:
    """Statements that put the value of a part into a variable of its name: from the last quote before it on, part by part."""
    quotes, steps = 0, ["r = $1"]
    for part in parts[:at]:
        tail = part.literal.rpartition(b'"')[2]
        quotes += part.literal.count(b'"')
        steps = [*steps, _skip(part)] if tail == part.literal else [f"r = ${quotes + 1}", f"r = substr(r, {len(tail) + 1})"]
    return "; ".join([*filter(None, steps), f"{parts[at].variable} = {_end(parts[at])}"]).replace("; r = substr(r, 1)", "")


def _skip(part: Part) -> str:
    name, length = part.variable, len(part.literal)
    if name == "" or name in _FIXED:
        return f"r = substr(r, {(_FIXED[name][0] if name else 0) + length + 1})"
    return f"r = substr(r, index(r, {_quoted(part.literal[:1])}) + {length})"


def _end(part: Part) -> str:
    if part.variable in _FIXED:
        return f"substr(r, 1, {_FIXED[part.variable][0]})"
    return "r" if part.literal[:1] in {b"", b'"'} else f"substr(r, 1, index(r, {_quoted(part.literal[:1])}) - 1)"


def _quoted(char: bytes) -> str:
    return {b"\\": r'"\\"', b"\t": r'"\t"'}.get(char, f'"{char.decode()}"')


# ---- the counting ----


def _counting(taken: Mapping[str, str], naming: tuple[str, str, str]) -> str:
    """What is known to be good is counted at once, all else is looked at. `taken`: how each value is taken, by name."""
    end, good, bad = naming
    key = r' "\t" '.join(taken) + end
    return f"""{_taking(taken)}
key = {key}
if (key in good) {{ {good}; next }}
if ({_is_sound(taken)}) {{
if ({_is_good(taken)}) {{ {good}; next }}
if (sent++ >= most) {{ {bad}; next }}
}}
"""


_UNNAMED = "", "good[key]++", "bad[key]++"


def _naming(taken: str, *, is_timed: bool) -> tuple[str, str, str]:
    """What ends a key, and statements that count a good line and another one by its client: a sample of the good ones, and
    MOST_CLIENTS of the others. `taken` takes the client.
    """
    client = taken.replace("remote_addr = ", "who = ")
    good = f"if ({_NAMED_OF_MINUTES if is_timed else _NAMED}) {{ {client}; named++; good[key who]++ }} else good[key]++"
    is_known = f'if (!(who in known)) {{ if (clients++ < {MOST_CLIENTS}) known[who]; else who = "" }}'
    return r' "\t"', good, f"{client}; {is_known}; bad[key who]++"


def _taking(taken: Mapping[str, str]) -> str:
    """Of a client that left it decides whether it had a second's patience, and whether the last server had begun to answer.

    nginx writes nothing as the completion of an answer that has none; a row has a dash there: nothing would pass for OK.
    """
    shorter = {
        "request_time": f'request_time = request_time + 0 < {HUNG_S} ? "0.000" : "{HUNG_S}.000"',
        "upstream_header_time": 'gsub(/[1-9]/, "0", upstream_header_time)',
        "request_completion": 'if (request_completion == "") request_completion = "-"',
        "msec": r'msec = substr(msec, 1, index(msec, ".")) "000"',
    }
    of_the_hung = [name for name in ("request_time", "upstream_header_time") if name in taken]
    always = [f"{how}; {shorter.get(name, '')}" for name, how in taken.items() if name not in of_the_hung]
    short = "; ".join(f"{taken[name]}; {shorter[name]}" for name in of_the_hung)
    left = {"status": f'status == "{CLIENT_LEFT}"', "request_completion": 'request_completion != "OK"'}
    has_left = " || ".join(how for name, how in left.items() if name in taken) or "0"
    nothing = "; ".join(f'{name} = ""' for name in of_the_hung)
    return "\n".join(always) + f"\nif ({has_left}) {{ {short} }} else {{ {nothing} }}"


def _is_sound(names: Collection[str]) -> str:
    """Lists that were taken as free text."""
    lists = {name: f"({_LISTS[name]}((, | : ){_LISTS[name]})*( : )?)?" for name in names if name in _LISTS}
    return " && ".join(f"{name} ~ /^{shape}$/" for name, shape in lists.items()) or "1"


def _is_good(names: Collection[str]) -> str:
    """As _GOOD of logs/entries.py has it."""
    rules = {
        "status": f'(status ~ /^[1-4]/ && status != "{CLIENT_LEFT}")',
        "upstream_status": "upstream_status ~ /^(-|[1-4][0-9][0-9])?$/",
        "request_completion": 'request_completion == "OK"',
    }
    return " && ".join(rule for name, rule in rules.items() if name in names) or "1"
