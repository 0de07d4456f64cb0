"""Bytes that others wrote, made safe to show: logs, banners and stderr can carry terminal escapes and bidi controls."""

_SHOWN = tuple(chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}" for byte in range(256))  # noqa: PLR2004  (printable ASCII)


def printable(data: bytes) -> str:
    """`data` as printable ASCII; every byte outside 0x20-0x7e becomes `\\xNN`, so Unicode (bidi too) never reaches a terminal."""
    return "".join(map(_SHOWN.__getitem__, data))


def plain(text: str) -> str:
    """Text with a stranger's words in it: every character that is not printable as `\\xNN`."""
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


def told(output: bytes) -> str:
    """A program's words in one line: its lines, without the empty ones, between slashes."""
    return " / ".join(printable(line.strip()) for line in output.splitlines() if line.strip())
