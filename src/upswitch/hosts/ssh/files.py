"""Files on the host, one script each: one round trip. The words of a failure are the kernel's, as the programs print them."""

import threading

from upswitch.basics.errors import HostError, NotAppendedError
from upswitch.basics.text import printable
from upswitch.hosts.host import Chunk, Ran
from upswitch.hosts.sh import Exit
from upswitch.hosts.ssh.shell import Shell, quoted

DEADLINE = 20.0
_NO_FILE = 90
_NOT_APPENDED = 110
_FENCED = "refused: somebody else has acted here since we took the lock"

# $1: path, $2: offset, $3: limit. Looked at before it is opened, as opening a FIFO waits for a writer; then all is of one file,
# whatever the name means by then.
_READ = r"""
s=$(stat -L -c '%f' -- "$1" 2>&1) || { case $s in *': No such file or directory') exit 97 ;; esac; echo "$s" >&2; exit 1; }
[ -f "$1" ] || exit 90
{
  s=$(stat -L -c '%i %s' /dev/fd/3) || exit
  echo "$s"
  [ "$2" -ge "${s#* }" ] || [ "$3" = 0 ] || dd bs=65536 iflag=fullblock,skip_bytes,count_bytes skip="$2" count="$3" status=none <&3
} 3<"$1"
"""

# $1: path, $2: temp, $3: mode, $4: length; the bytes on stdin. excl: a planted link is not followed.
_WRITE = r"""
umask 077
trap 'rm -f -- "$2"' EXIT
rm -f -- "$2"
dd of="$2" bs=65536 iflag=fullblock conv=excl status=none || exit
[ "$(stat -c %s -- "$2")" = "$4" ] || { echo 'x: the stream was cut off' >&2; exit 1; }
if [ -e "$1" ]; then chown --reference="$1" -- "$2" && chmod --reference="$1" -- "$2"; else chmod "$3" -- "$2"; fi || exit
sync -- "$2" && mv -fT -- "$2" "$1" && sync -- "${1%/*}/."
"""

# In the waiting shell itself. $1: path, $2: length, $3: the epoch's file or "", $4: what it must say, $5: the bytes. A half line
# is taken away again. (A here-document would need room in /tmp; `printf >>` would not say what the kernel did.)
_APPEND = rf"""append() {{
  [ -z "$3" ] || {{ read -r now < "$3" && [ "$now" = "$4" ]; }} 2>/dev/null ||
    {{ echo 'x: {_FENCED}' >&2; return {_NOT_APPENDED}; }}
  was=$(stat -c %s -- "$1" 2>/dev/null 9<&-) || {{ was=0; [ -L "$1" ] || (umask 077; : >> "$1") 2>/dev/null; }}
  printf %s "$5" | dd of="$1" bs="$2" iflag=fullblock oflag=append,nofollow,nonblock conv=notrunc,fsync status=none &&
    [ ! -L "$1" ] && [ -f "$1" ] && return
  [ -L "$1" ] || [ ! -f "$1" ] || truncate -s "$was" -- "$1"
  return {_NOT_APPENDED}
}}
"""
_MOST_AHEAD = 1 << 16  # bytes; an argument may have twice as many (MAX_ARG_STRLEN)


class Waiting(threading.local):
    """What one thread has appended and not sent yet: it travels with that thread's next command."""

    path: str = ""
    data: bytes = b""

    @property
    def is_too_long(self) -> bool:
        return len(self.data) > _MOST_AHEAD

    def add(self, path: str, data: bytes) -> None:
        self.path, self.data = path, self.data + data

    def take(self) -> tuple[str, bytes]:
        data, self.data = self.data, b""
        return self.path, data


def ahead(path: str, data: bytes, *, fence: tuple[str, str]) -> str:
    """What a shell does before a command of ours (Shell.run): it appends. `check_ahead` tells the two ends apart.

    `fence`: a file and its text, without which nothing is done; two "" for none. A NUL byte can't be appended.
    """
    if not data:
        return ""
    text = data.decode("utf-8", "surrogateescape")
    return f"{_APPEND}append {quoted((path, str(len(data)), *fence, text))}"


def check_ahead(ran: Ran, path: str) -> Ran:
    """NotAppendedError where the command was not begun."""
    if ran.exit == _NOT_APPENDED:
        raise NotAppendedError(f"append to {path}", _last_words(ran))
    return ran


def read(shell: Shell, path: str, *, offset: int, limit: int) -> Chunk | None:
    """None where there is no such file."""
    ran = shell.run(("sh", "-c", _READ, "read", path, str(offset), str(limit)), deadline=DEADLINE)
    if ran.exit == Exit.NOT_THERE:
        return None
    _check(ran, f"read {path}")
    head, _, data = ran.out.partition(b"\n")
    inode, _, size = head.partition(b" ")
    return Chunk(inode=int(inode), size=int(size), data=data)


def write(shell: Shell, path: str, data: bytes, *, mode: int, token: str) -> None:
    folder, _, name = path.rpartition("/")
    argv = ("sh", "-c", _WRITE, "write", path, f"{folder}/.{name}.{token}.tmp", f"{mode:o}", str(len(data)))
    _check(shell.run(argv, deadline=DEADLINE, stdin=data), f"write {path}")


def append(shell: Shell, path: str, data: bytes, *, fence: tuple[str, str]) -> None:
    _check(shell.evaluate(ahead(path, data, fence=fence), deadline=DEADLINE), f"append to {path}")


def _check(ran: Ran, what: str) -> None:
    """HostError unless it has ended well."""
    if ran.exit is None:
        raise HostError(what, f"it may or may not have been done: {ran.words}")
    if ran.exit:
        raise HostError(what, "it is no regular file" if ran.exit == _NO_FILE else _last_words(ran))


def _last_words(ran: Ran) -> str:
    lines = ran.err.strip().splitlines() or [b""]
    return printable(lines[-1].rpartition(b": ")[2]) or f"exit {ran.exit}"
