"""The commands of a first use (`init --apply`) and of its undo. Values are parameters; codes above 89 are ours."""

from msgspec.structs import replace

from upswitch.nginx.build import Build
from upswitch.nginx.commands import nginx_argv
from upswitch.site.model import Nginx

_SH = ("sh", "-c")

# Each argument is a path: what it is, how many names it has, and where it really lies. One line each.
_KINDS = r"""
for path in "$@"; do
  kind=none
  if [ -L "$path" ]; then kind=link
  elif [ -f "$path" ]; then kind=file
  elif [ -e "$path" ]; then kind=other
  fi
  printf '%s %s %s\n' "$kind" "$(stat -L -c %h -- "$path" 2>/dev/null || echo 0)" "$(readlink -m -- "$path")"
done
"""

# $1: folder, $2: generation. The first live link: made only where there is nothing of that name.
_FIRST_LINK = r"""
cd "$1" || exit 90
[ ! -e live ] && [ ! -L live ] || exit 96
[ -r "generations/$2/marker.conf" ] || exit 97
ln -sT "generations/$2" live || exit 95
sync . || exit 98
"""

# $1: folder, $2: generation. Takes the generation away, and the live link where it points to that one.
_FORGET = r"""
cd "$1" 2>/dev/null || exit 0
[ "$(readlink live)" != "generations/$2" ] || rm live || exit 95
rm -rf "./generations/$2" "./generations/.$2.tmp" || exit 95
sync . generations
"""

# $1: a path for the candidate, beside the file that it is to replace; the rest is nginx's argv. The candidate comes on stdin.
_TEST_BESIDE = r"""
umask 077
cand=$1
shift
trap 'rm -f "$cand"' EXIT
trap 'exit 143' HUP INT TERM
cat > "$cand" || exit 95
"$@"
"""

# $1: a path for the candidate, $2: the file to cover with it; the rest is nginx's argv. The candidate comes on stdin.
_TEST_COVERED = r"""
umask 077
cand=$1 file=$2
shift 2
trap 'rm -f "$cand"' EXIT
trap 'exit 143' HUP INT TERM
cat > "$cand" || exit 95
unshare -m --propagation private sh -c '
  mount --bind "$1" "$2" || exit 99
  shift 2
  exec "$@"' sh "$cand" "$file" "$@"
"""

# $1: file, $2: the backup's path, numbered where there is one already. Its expected bytes come on stdin. Prints the backup's path.
_BACKUP = r"""
cmp -s - "$1" || exit 96
backup=$2 n=0
while [ -e "$backup" ] || [ -L "$backup" ]; do n=$((n+1)) backup=$2.$n; done
temp=${2%/*}/.${2##*/}.tmp
rm -f "$temp" && cp -p -- "$1" "$temp" && sync "$temp" && mv -nT "$temp" "$backup" && sync "${2%/*}" || exit 95
printf '%s\n' "$backup"
"""

# $1: file, $2: its backup. Our bytes come on stdin: anything else that stands there now is not ours to overwrite.
_TAKE_BACK = r"""
if cmp -s - "$1"; then mv -fT "$2" "$1" || exit 95
elif cmp -s "$2" "$1"; then rm -f "$2"
else exit 96
fi
sync "$1" "${1%/*}" || exit 98
"""

# $1: file. Removed only if it holds the bytes on stdin.
_REMOVE_OURS = r"""
[ -e "$1" ] || exit 0
cmp -s - "$1" || exit 96
rm -f "$1"
"""


def kinds(paths: tuple[str, ...]) -> tuple[str, ...]:
    return (*_SH, _KINDS, "kinds", *paths)


def first_link(folder: str, name: str) -> tuple[str, ...]:
    return (*_SH, _FIRST_LINK, "link", folder, name)


def forget(folder: str, name: str) -> tuple[str, ...]:
    """Undo a first use: the live link to generation `name` and the generation itself."""
    return (*_SH, _FORGET, "forget", folder, name)


def backup(file: str, to: str) -> tuple[str, ...]:
    return (*_SH, _BACKUP, "backup", file, to)


def take_back(file: str, backup: str) -> tuple[str, ...]:
    return (*_SH, _TAKE_BACK, "restore", file, backup)


def remove_ours(file: str) -> tuple[str, ...]:
    return (*_SH, _REMOVE_OURS, "remove", file)


def test_beside(nginx: Nginx, build: Build) -> tuple[str, ...]:
    """Another main file, under a name of its own in the same folder: includes are found from there. It comes on stdin."""
    folder, _, name = nginx.conf.rpartition("/")
    candidate = f"{folder}/.{name}.upswitch-test"
    return (*_SH, _TEST_BESIDE, "test", candidate, *nginx_argv(replace(nginx, conf=candidate), build, "-t"))


def test_covered(nginx: Nginx, build: Build, *, file: str) -> tuple[str, ...]:
    """The real configuration with `file` covered by what comes on stdin, in a mount namespace of its own."""
    return (*_SH, _TEST_COVERED, "test", f"{nginx.dir}/.edit.tmp", file, *nginx_argv(nginx, build, "-t"))


def test(nginx: Nginx, build: Build) -> tuple[str, ...]:
    """The configuration as it stands on disk."""
    return nginx_argv(nginx, build, "-t")
