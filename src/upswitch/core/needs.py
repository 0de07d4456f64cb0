"""What a host must have beside nginx: asked with the first command, before anything else is asked of it or done there."""

from upswitch.core.foreign import told

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
