r"""nginx statements with their offsets in the text, so that one can be replaced without touching the rest.

crossplane gives lines, not offsets. These are nginx's own rules (ngx_conf_read_token): a word ends at white space, `;` or `{`.
Quotes count only at its start. `${` does not open a block. A backslash takes the next character along.
"""

import re
from collections.abc import Iterator

from upswitch.basics.value import Value
from upswitch.nginx.dump import unescaped

# Atomic groups, as possessive quantifiers match wrongly over a group before Python 3.11.5 (CPython issue 101955).
_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\n]++|\#[^\n]*+)
      | (?P<token>[;{}]
        | "(?>(?:[^"\\]|\\.)*)"
        | '(?>(?:[^'\\]|\\.)*)'
        | (?:\\.|[^ \t\r\n;{}"'\\])(?>(?:\\.|(?<=\$)\{|[^ \t\r\n;{\\])*))""",
    re.VERBOSE | re.DOTALL,
)


class StatementError(ValueError):
    """The text can't be read as nginx statements. The message has the line and the reason."""


class Token(Value):
    """A word as written, with its quotes, or one of `;` `{` `}`. `start` and `end` are offsets in the text."""

    text: str
    start: int
    end: int


class Statement(Value):
    """One directive from its first word to its `;` or `}`. `words` are unquoted, and empty for the closing `}` of a block."""

    words: tuple[str, ...]
    start: int
    end: int
    block: "tuple[Statement, ...] | None" = None


def tokens(text: str) -> tuple[str, ...]:
    """The words and marks without comments and white space. Two files with equal tokens are the same to nginx."""
    return tuple(each.text for each in _tokens(text, 0))


def statements(text: str) -> tuple[Statement, ...]:
    """The top-level statements of a text."""
    found: list[Statement] = []
    source = _tokens(text, 0)
    while (each := _statement(source)) is not None:
        if not each.words:
            raise StatementError(f'line {_line(text, each.start)}: unexpected "}}"')
        found.append(each)
    return tuple(found)


def statement_at(text: str, start: int) -> Statement | None:
    """The one statement that begins at `start` or after white space there. The text around it may be unreadable (Lua, say)."""
    return _statement(_tokens(text, start))


def line_span(text: str, line: int) -> tuple[int, int]:
    """Where a line begins and ends, without its newline. Lines count from 1."""
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    newline = text.find("\n", start)
    return start, len(text) if newline < 0 else newline


def block_start(text: str, line: int, words: tuple[str, ...]) -> int:
    """The offset behind the `{` of the block with these words that begins in this line.

    StatementError unless there is exactly one.
    """
    found = [each[-1] for each in written_at(text, line, words) if each[-1].text == "{"]
    if len(found) != 1:
        raise StatementError(f"line {line}: the block `{' '.join(words)}` can't be told from others; begin it on a line of its own")
    return found[0].end


def written_at(text: str, line: int, words: tuple[str, ...]) -> list[tuple[Token, ...]]:
    """Each statement with these words that begins in this line, as it is written: its words, and the `;` or `{` behind them."""
    start, end = line_span(text, line)
    first = re.escape(words[0])
    begins = [found.start() for found in re.finditer(rf"""(?<![^\s;{{}}])["']?{first}["']?(?=[\s{{;]|$)""", text[start:end])]
    return [found for begin in begins if (found := _head(text, start + begin, words))]


def values_at(text: str, line: int, value: str) -> list[Token]:
    """The last words of statements in this line that have this value: `x` in `default x;`, as it is written."""
    start, end = line_span(text, line)
    found, last = [], None
    for token in _tokens(text, start):
        if token.text == ";" and last is not None and _unquoted([last]) == (value,):
            found.append(last)
        if token.end > end:
            break
        last = token
    return found


def _head(text: str, start: int, words: tuple[str, ...]) -> tuple[Token, ...]:
    """The tokens of the statement that begins here, up to its `;` or `{`; empty where it has other words."""
    seen: list[Token] = []
    for token in _tokens(text, start):
        if token.text in (";", "{", "}"):
            return (*seen, token) if token.text != "}" and _unquoted(seen) == words else ()
        seen.append(token)
    return ()


def _tokens(text: str, start: int) -> Iterator[Token]:
    at = start
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise StatementError(f"line {_line(text, at)}: a quote or a backslash is not ended")
        if found["token"]:
            yield Token(text=found["token"], start=at, end=found.end())
        at = found.end()


def _statement(source: Iterator[Token]) -> Statement | None:
    """The next statement; None at the end of the text."""
    words: list[Token] = []
    for token in source:
        match token.text:
            case ";" if words:
                return Statement(words=_unquoted(words), start=words[0].start, end=token.end)
            case "{" if words:
                block, end = _block(source)
                return Statement(words=_unquoted(words), start=words[0].start, end=end, block=block)
            case "}" if not words:
                return Statement(words=(), start=token.start, end=token.end)
            case ";" | "{" | "}":
                raise StatementError(f'unexpected "{token.text}" at byte {token.start}')
            case _:
                words.append(token)
    if words:
        raise StatementError(f'"{words[0].text}" does not end with ";" or a block')
    return None


def _block(source: Iterator[Token]) -> tuple[tuple[Statement, ...], int]:
    """The statements up to the closing brace, and the offset behind it."""
    found: list[Statement] = []
    while (each := _statement(source)) is not None:
        if not each.words:
            return tuple(found), each.end
        found.append(each)
    raise StatementError('the text ends, but a "}" is missing')


def _unquoted(words: list[Token]) -> tuple[str, ...]:
    return tuple(unescaped(each.text[1:-1] if each.text[0] in "\"'" else each.text) for each in words)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1
