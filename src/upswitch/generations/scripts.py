"""The commands that are run on a host, as argv tuples made by pure functions.

One POSIX sh script does a whole step, so that a host behind SSH costs one round trip. Values are positional parameters and
never part of a script's text. Exit codes above 89 are ours: each says how far the script came.
"""

from upswitch.hosts.sh import SH

# $1: the upswitch folder. What is on disk, for store.Disk. A missing folder prints nothing. Names that can't be a
# generation's are left out here, so that one with a line break can't pass for another line.
_LOOK = r"""
cd "$1" 2>/dev/null || exit 0
printf 'live %s\n' "$(readlink live 2>/dev/null)"
for g in generations/*; do
  name=${g#generations/}
  case $name in *[!A-Za-z0-9_-]*) continue ;; esac
  [ -d "$g" ] && printf 'generation %s\n' "$name"
done
[ -e live/. ] && (cd live/ && for f in *.conf; do
  [ -e "$f" ] || [ -L "$f" ] || continue
  [ -f "$f" ] && sha256sum -- "$f" 2>/dev/null || printf 'unreadable  %s\n' "$f"
done | sed 's/^/sum /')
[ -r live/manifest.json ] && { printf 'manifest '; cat live/manifest.json | tr -d '\n'; printf '\n'; }
exit 0
"""

# $1: the upswitch folder. Each manifest on a line of its own.
_MANIFESTS = r"""
cd "$1/generations" || exit 90
for m in */manifest.json; do [ -r "$m" ] && { tr -d '\n' < "$m"; echo; }; done
exit 0
"""

# $1: folder, $2: the generation that the way back's link is to name, or ""; the rest are names; a tar on stdin, with a folder for
# each. A generation appears under its name only when all of them are complete and on disk: tar takes a stream that was cut between
# two files for a whole one, so the manifests, which come last, must be there. The link is made beforehand: going back must not need
# an inode of a full disk.
_STAGE = r"""
set -e
umask 022
cd "$1"
back=$2
shift 2
mkdir -p generations
for name; do [ ! -e "generations/$name" ] || { echo "generations/$name: it is there already" >&2; exit 96; }; done
temp="generations/.$1.tmp"
rm -rf "$temp"
trap 'rm -rf "$temp"' EXIT
mkdir "$temp"
tar -xf - --no-same-owner -C "$temp"
for name; do [ -s "$temp/$name/manifest.json" ] || { echo 'the stream was cut off' >&2; exit 95; }; done
sync "$temp"/*/* "$temp"/*
for name; do mv -T "$temp/$name" "generations/$name"; done
sync generations
[ -z "$back" ] || { rm -f .live.back && ln -s "generations/$back" .live.back && sync .; }
"""

# $1: folder, $2: the generation that must be live, $3: the one that is to be.
_SWAP = r"""
cd "$1" || exit 90
[ "$(readlink live)" = "generations/$2" ] || exit 96
[ -r "generations/$3/marker.conf" ] || exit 97
temp=.live.back
if [ "$(readlink $temp)" != "generations/$3" ]; then
  temp=.live.tmp
  rm -f $temp && ln -s "generations/$3" $temp || exit 95
fi
[ -r "generations/$3/marker.conf" ] || { rm -f $temp; exit 97; }
mv -fT $temp live || { rm -f $temp; exit 95; }
sync . || exit 98
"""

_PRUNE = r"""
cd "$1/generations" || exit 90
live=$(readlink ../live)
shift
for name in "$@"; do
  case $name in */*|.*|'') continue;; esac
  [ "generations/$name" = "$live" ] || rm -rf "./$name" "./.$name.tmp"
done
"""

# $1: the upswitch folder, $2: the state folder. Whoever may write a part of the way to the first decides what root's nginx loads
# (reliability.md, S6 and S8): every part must be root's or ours, and not writable by others unless sticky.
_FOLDERS = r"""
umask 022
mkdir -p "$1/generations" || exit 90
(umask 077; mkdir -p "$2") || exit 91
[ "$(stat -c %u "$2")" = "$(id -u)" ] && [ ! -L "$2" ] && [ -z "$(find "$2" -prune -perm /022)" ] || exit 92
folder=$1 way=$1
set -- /
while [ -n "$way" ]; do set -- "$@" "$way/."; way=${way%/*}; done
set -- "$@" "$folder/generations"
bad=$(find "$@" -prune \( -perm -0002 ! -perm -1000 -o ! -user 0 ! -user "$(id -u)" -o \
  -perm -0020 ! -perm -1000 ! -group 0 ! -group "$(id -g)" \))
[ -z "$bad" ] || { echo "others may write $bad" >&2; exit 93; }
"""


def look(folder: str) -> tuple[str, ...]:
    return (*SH, _LOOK, "look", folder)


def manifests(folder: str) -> tuple[str, ...]:
    return (*SH, _MANIFESTS, "manifests", folder)


def folders(folder: str, state: str) -> tuple[str, ...]:
    """Make our two folders: ours in /etc readable, ours in /var/lib private."""
    return (*SH, _FOLDERS, "folders", folder, state)


def stage(folder: str, names: tuple[str, ...], *, back: str = "") -> tuple[str, ...]:
    """`back`: the generation of the way back."""
    return (*SH, _STAGE, "stage", folder, back, *names)


def fetch(folder: str, name: str) -> tuple[str, ...]:
    """A generation's files as a tar on stdout."""
    return ("tar", "-cf", "-", "-C", f"{folder}/generations/{name}", ".")


def fetch_live(folder: str) -> tuple[str, ...]:
    """The same of the live generation."""
    return ("tar", "-cf", "-", "-C", f"{folder}/live/", ".")


def swap(folder: str, *, expect: str, to: str) -> tuple[str, ...]:
    return (*SH, _SWAP, "swap", folder, expect, to)


def prune(folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return (*SH, _PRUNE, "prune", folder, *names)
