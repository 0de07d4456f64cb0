"""What a host must have beside nginx: asked with the first command, before anything else is asked of it or done there."""

from upswitch.basics.text import told

LACKS = 90

# busybox has a dd and a flock too; what is asked of them here theirs don't know. Where dd is GNU's, so are its siblings.
_LOOK = r"""
lacking=
for tool in awk dd flock grep sed sha256sum stat tar timeout; do
  command -v "$tool" >/dev/null || lacking="$lacking $tool"
done
dd if=/dev/null of=/dev/null oflag=append,nofollow conv=notrunc status=none 2>/dev/null || lacking="$lacking coreutils"
flock --version >/dev/null 2>&1 || lacking="$lacking util-linux"
[ -z "$lacking" ] || { echo "$lacking"; exit 90; }
exec cat /proc/sys/kernel/random/boot_id
"""

_PACKAGES = {"dd": "coreutils", "sha256sum": "coreutils", "stat": "coreutils", "timeout": "coreutils", "flock": "util-linux"}


def look() -> tuple[str, ...]:
    """Prints the boot's id where nothing is lacking."""
    return ("sh", "-c", _LOOK, "needs")


def problem(output: bytes) -> str:
    """Of a host that LACKS something: what it is, and what mends it."""
    packages = sorted({_PACKAGES.get(word, word) for word in told(output).split()})
    return f"it lacks {' and '.join(packages)}: install that there (what busybox has of it is not enough)"


NO_FOLDER = 90
FENCED = 94  # the lock was somebody else's since: nothing was done
NOT_DONE = 95
CHANGED = 96  # what we found is not what we expected: nothing was done
NOT_THERE = 97
DONE_UNSYNCED = 98  # the change was made but may not survive a power cut

SH = ("sh", "-c")

# $1: the journal, $2: bytes, $3: what to do where there is none. All of it, and blocks set aside after its end. KEEP_SIZE leaves
# its length alone; a file system without it says so, and then nothing is reserved. A FIFO in its place must not hold us up.
_OPEN_JOURNAL = r"""
umask 077
[ -e "$1" ] || [ -L "$1" ] || { [ "$3" = make ] && : >> "$1"; } || exit 97
[ ! -L "$1" ] && [ -f "$1" ] || { echo 'it is no regular file' >&2; exit 90; }
fallocate -n -o "$(stat -c %s -- "$1")" -l "$2" -- "$1" 2>/dev/null
exec cat -- "$1"
"""


def open_journal(path: str, *, reserve: int, is_made: bool) -> tuple[str, ...]:
    """`reserve`: bytes. NOT_THERE where there is none, and none is made."""
    return (*SH, _OPEN_JOURNAL, "journal", path, str(reserve), "make" if is_made else "")


QUICK_S = 5.0  # seconds for a script that only looks
