"""The commands that are run on a host, as argv tuples made by pure functions.

One POSIX sh script does a whole step, so that a host behind SSH costs one round trip. Values are positional parameters and
never part of a script's text. Exit codes above 89 are ours: each says how far the script came.
"""

from upswitch.core import dialect
from upswitch.core.build import Build
from upswitch.core.site import Nginx

NO_FOLDER = 90
FENCED = 94  # the lock was somebody else's since: nothing was done
NOT_DONE = 95
CHANGED = 96  # what we found is not what we expected: nothing was done
NOT_THERE = 97
DONE_UNSYNCED = 98  # the change was made but may not survive a power cut
NO_MOUNT = 99

_SH = ("sh", "-c")

# $1: the upswitch folder. What is on disk, for Disk in survey.py. A missing folder prints nothing. Names that can't be a
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

# $1: the journal, $2: bytes, $3: what to do where there is none. All of it, and blocks set aside after its end. KEEP_SIZE leaves
# its length alone; a file system without it says so, and then nothing is reserved. A FIFO in its place must not hold us up.
_OPEN_JOURNAL = r"""
umask 077
[ -e "$1" ] || [ -L "$1" ] || { [ "$3" = make ] && : >> "$1"; } || exit 97
[ ! -L "$1" ] && [ -f "$1" ] || { echo 'it is no regular file' >&2; exit 90; }
fallocate -n -o "$(stat -c %s -- "$1")" -l "$2" -- "$1" 2>/dev/null
exec cat -- "$1"
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

# $1: candidate, $2: what to cover, $3: the master's pid or 0; the rest is nginx's argv. The live tree is not touched: the
# mount exists in this command's namespace only. A sandboxed nginx (PrivateTmp, ...) is asked from inside its own.
_TEST_MOUNTED = r"""
cand=$1 live=$2 pid=$3
shift 3
enter=
if [ "$pid" != 0 ] && [ "$(readlink /proc/$pid/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ]; then
  enter="nsenter -t $pid -m --"
fi
exec $enter unshare -m --propagation private sh -c '
  mount --bind "$1" "$2/" || exit 99
  shift 2
  exec "$@"' sh "$cand" "$live" "$@"
"""

# $1: folder, $2: live generation, $3: candidate; the rest is nginx's argv. Puts the link back whatever happens,
# unless somebody (a repair) has moved it on since; 98 where it could not be put back.
_TEST_SWAPPED = r"""
cd "$1" || exit 90
live=$2 cand=$3
shift 3
[ "$(readlink live)" = "generations/$live" ] || exit 96
point() { rm -f .live.tmp && ln -s "generations/$1" .live.tmp && mv -fT .live.tmp live && sync .; }
trap '[ "$(readlink live)" != "generations/$cand" ] || point "$live" || exit 98' EXIT
trap 'exit 143' HUP INT TERM
point "$cand" || exit 95
"$@"
"""

# $1: the start of a process in clock ticks since boot. That time and now, as nginx writes them in the same time zone; the first a
# second early, as both clocks are cut to seconds.
_STARTED = r"""
hz=$(getconf CLK_TCK) && boot=$(sed -n 's/^btime //p' /proc/stat) || exit 90
printf '%s - ' "$(date -d "@$((boot + $1 / hz - 1))" '+%Y/%m/%d %H:%M:%S')"
date '+%Y/%m/%d %H:%M:%S'
"""

# $1: the wrapper configuration; the rest is the argv of nginx up to -c.
_TEST_ALONE = r"""
temp=$(mktemp -d) || exit 90
trap 'rm -rf "$temp"' EXIT
printf '%s' "$1" > "$temp/nginx.conf"
shift
"$@" -p "$temp/" -c "$temp/nginx.conf"
"""

# An argv of nginx with `-e stderr` in it. One that is older than that option (1.19.5) says so and has done nothing: again without.
_WITH_ERRORS = r"""
{ err=$("$@" 2>&1 >&3 3>&-); code=$?; } 3>&1
case $err in *'invalid option: "e"'*) ;; *) printf '%s\n' "$err" >&2; exit "$code" ;; esac
for word; do
  shift
  case $word in -e | stderr) ;; *) set -- "$@" "$word" ;; esac
done
exec "$@"
"""

# $1: flag, $2: a token, $3: tenths of a second after which it is lowered without us. Raised with the folder readable by the
# worker's user; the watcher ends as soon as the flag is gone and never lowers a later run's.
_RAISE = r"""
umask 022
mkdir -p "${1%/*}" || exit 90
printf %s "$2" > "$1" || exit 95
setsid sh -c '
  n=0
  while [ -e "$1" ] && [ $n -lt "$3" ]; do sleep 0.1; n=$((n+1)); done
  [ "$(cat "$1" 2>/dev/null)" != "$2" ] || rm -f "$1"' sh "$1" "$2" "$3" </dev/null >/dev/null 2>&1 &
"""

# $1: a configuration; the rest is nginx's argv up to -c. Nothing of a configuration that does not pass is opened or made.
_PROBE_CHECK = (
    r"""
temp=$(mktemp -d) || exit 90
trap 'rm -rf "$temp"' EXIT
printf '%s' "$1" > "$temp/nginx.conf"
shift
set -- timeout -s KILL 15 "$@" -p "$temp/" -c "$temp/nginx.conf"
("""
    + _WITH_ERRORS
    + r""")
"""
)

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
    return (*_SH, _LOOK, "look", folder)


def open_journal(path: str, *, reserve: int, is_made: bool) -> tuple[str, ...]:
    """`reserve`: bytes. NOT_THERE where there is none, and none is made."""
    return (*_SH, _OPEN_JOURNAL, "journal", path, str(reserve), "make" if is_made else "")


def manifests(folder: str) -> tuple[str, ...]:
    return (*_SH, _MANIFESTS, "manifests", folder)


def folders(folder: str, state: str) -> tuple[str, ...]:
    """Make our two folders: ours in /etc readable, ours in /var/lib private."""
    return (*_SH, _FOLDERS, "folders", folder, state)


def stage(folder: str, names: tuple[str, ...], *, back: str = "") -> tuple[str, ...]:
    """`back`: the generation of the way back."""
    return (*_SH, _STAGE, "stage", folder, back, *names)


def fetch(folder: str, name: str) -> tuple[str, ...]:
    """A generation's files as a tar on stdout."""
    return ("tar", "-cf", "-", "-C", f"{folder}/generations/{name}", ".")


def fetch_live(folder: str) -> tuple[str, ...]:
    """The same of the live generation."""
    return ("tar", "-cf", "-", "-C", f"{folder}/live/", ".")


def swap(folder: str, *, expect: str, to: str) -> tuple[str, ...]:
    return (*_SH, _SWAP, "swap", folder, expect, to)


def prune(folder: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return (*_SH, _PRUNE, "prune", folder, *names)


def can_mount() -> tuple[str, ...]:
    return ("unshare", "-m", "--propagation", "private", "true")


def raise_flag(flag: str, token: str, *, tenths: int) -> tuple[str, ...]:
    return (*_SH, _RAISE, "raise", flag, token, str(tenths))


def lower_flag(flag: str) -> tuple[str, ...]:
    return ("rm", "-f", flag)


def nginx_version(nginx: Nginx) -> tuple[str, ...]:
    return (nginx.binary, "-V")


def nginx_argv(nginx: Nginx, build: Build, *options: str) -> tuple[str, ...]:
    """nginx with its own configuration; a failing test must not write into the live error log, so `-e stderr`."""
    return _nginx(nginx, ("-e", "stderr") if build.takes_error_log_flag else (), *options)


def dump(nginx: Nginx, *, seconds: float) -> tuple[str, ...]:
    """`nginx -T`, by an nginx whose version is not known yet; killed after so many seconds."""
    return (*_SH, _WITH_ERRORS, "dump", "timeout", "-s", "KILL", f"{seconds:g}", *_nginx(nginx, ("-e", "stderr"), "-T"))


def _nginx(nginx: Nginx, errors: tuple[str, ...], *options: str) -> tuple[str, ...]:
    prefix = ("-p", nginx.prefix) if nginx.prefix else ()
    return (nginx.binary, *prefix, *errors, "-c", nginx.conf, *options)


def reload(nginx: Nginx, build: Build) -> tuple[str, ...]:
    return nginx.reload or nginx_argv(nginx, build, "-s", "reload")


def test_mounted(nginx: Nginx, build: Build, *, candidate: str, master: int) -> tuple[str, ...]:
    """The real configuration with the candidate in the live one's place, in a mount namespace of its own."""
    folder = f"{nginx.dir}/generations/{candidate}"
    return (*_SH, _TEST_MOUNTED, "test", folder, nginx.live, str(master), *nginx_argv(nginx, build, "-t"))


def test_swapped(nginx: Nginx, build: Build, *, live: str, candidate: str) -> tuple[str, ...]:
    """The same where no mount is allowed: swap, test, swap back."""
    return (*_SH, _TEST_SWAPPED, "test", nginx.dir, live, candidate, *nginx_argv(nginx, build, "-t"))


def probe_check(nginx: Nginx, *, modules: tuple[str, ...]) -> tuple[str, ...]:
    """A test of a `check` that only Tengine's takes: what nginx says of it tells the dialect (dialect.py). It never passes."""
    return (*_SH, _PROBE_CHECK, "probe", _check_probe(modules), nginx.binary, "-t", "-e", "stderr")


def test_alone(nginx: Nginx, build: Build, conf: str) -> tuple[str, ...]:
    """A candidate alone in a wrapper configuration (see `wrapper`), with no rights needed and nothing touched."""
    errors = ("-e", "stderr") if build.takes_error_log_flag else ()
    return (*_SH, _TEST_ALONE, "test", conf, nginx.binary, "-t", *errors)


def started(ticks: int) -> tuple[str, ...]:
    """`START - NOW` of a process, as nginx would write them into its log."""
    return (*_SH, _STARTED, "started", str(ticks))


def wrapper(folder: str, build: Build, *, modules: tuple[str, ...], http: tuple[str, ...]) -> str:
    """A configuration around the generation in `folder`: the same modules and resolvers, all else in a place of its own."""
    optional = [kind for kind in ("fastcgi", "uwsgi", "scgi") if f"--without-http_{kind}_module" not in build.arguments]
    lines = [*modules, "pid pid;", "error_log stderr;", "events {}", "http {", "access_log off;"]
    lines += [f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", *optional)]
    lines += [*http, f"include {folder}/*.conf;", "}"]
    return "\n".join(lines) + "\n"


def _check_probe(modules: tuple[str, ...]) -> str:
    upstream = "upstream upswitch { server 127.0.0.1:9; check interval=1000 unique=false; }"
    return "\n".join((*modules, "events {}", "http {", upstream, f"{dialect.END};", "}", ""))
