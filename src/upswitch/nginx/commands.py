"""upswitch.nginx.commands."""

from upswitch.hosts.sh import SH
from upswitch.nginx import build
from upswitch.nginx.build import Build
from upswitch.site.model import Nginx

NO_MOUNT = 99

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


def can_mount() -> tuple[str, ...]:
    return ("unshare", "-m", "--propagation", "private", "true")


def raise_flag(flag: str, token: str, *, tenths: int) -> tuple[str, ...]:
    return (*SH, _RAISE, "raise", flag, token, str(tenths))


def lower_flag(flag: str) -> tuple[str, ...]:
    return ("rm", "-f", flag)


def nginx_version(nginx: Nginx) -> tuple[str, ...]:
    return (nginx.binary, "-V")


def nginx_argv(nginx: Nginx, build: Build, *options: str) -> tuple[str, ...]:
    """nginx with its own configuration; a failing test must not write into the live error log, so `-e stderr`."""
    return _nginx(nginx, ("-e", "stderr") if build.takes_error_log_flag else (), *options)


def dump_argv(nginx: Nginx, *, seconds: float) -> tuple[str, ...]:
    """`nginx -T`, by an nginx whose version is not known yet; killed after so many seconds."""
    return (*SH, _WITH_ERRORS, "dump", "timeout", "-s", "KILL", f"{seconds:g}", *_nginx(nginx, ("-e", "stderr"), "-T"))


def _nginx(nginx: Nginx, errors: tuple[str, ...], *options: str) -> tuple[str, ...]:
    prefix = ("-p", nginx.prefix) if nginx.prefix else ()
    return (nginx.binary, *prefix, *errors, "-c", nginx.conf, *options)


def reload(nginx: Nginx, build: Build) -> tuple[str, ...]:
    return nginx.reload or nginx_argv(nginx, build, "-s", "reload")


def test_mounted(nginx: Nginx, build: Build, *, candidate: str, master: int) -> tuple[str, ...]:
    """The real configuration with the candidate in the live one's place, in a mount namespace of its own."""
    folder = f"{nginx.dir}/generations/{candidate}"
    return (*SH, _TEST_MOUNTED, "test", folder, nginx.live, str(master), *nginx_argv(nginx, build, "-t"))


def test_swapped(nginx: Nginx, build: Build, *, live: str, candidate: str) -> tuple[str, ...]:
    """The same where no mount is allowed: swap, test, swap back."""
    return (*SH, _TEST_SWAPPED, "test", nginx.dir, live, candidate, *nginx_argv(nginx, build, "-t"))


def probe_check(nginx: Nginx, *, modules: tuple[str, ...]) -> tuple[str, ...]:
    """A test of a `check` that only Tengine's takes: what nginx says of it tells the dialect (dialect.py). It never passes."""
    return (*SH, _PROBE_CHECK, "probe", _check_probe(modules), nginx.binary, "-t", "-e", "stderr")


def test_alone(nginx: Nginx, build: Build, conf: str) -> tuple[str, ...]:
    """A candidate alone in a wrapper configuration (see `wrapper`), with no rights needed and nothing touched."""
    errors = ("-e", "stderr") if build.takes_error_log_flag else ()
    return (*SH, _TEST_ALONE, "test", conf, nginx.binary, "-t", *errors)


def started(ticks: int) -> tuple[str, ...]:
    """`START - NOW` of a process, as nginx would write them into its log."""
    return (*SH, _STARTED, "started", str(ticks))


def wrapper(folder: str, build: Build, *, modules: tuple[str, ...], http: tuple[str, ...]) -> str:
    """A configuration around the generation in `folder`: the same modules and resolvers, all else in a place of its own."""
    optional = [kind for kind in ("fastcgi", "uwsgi", "scgi") if f"--without-http_{kind}_module" not in build.arguments]
    lines = [*modules, "pid pid;", "error_log stderr;", "events {}", "http {", "access_log off;"]
    lines += [f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", *optional)]
    lines += [*http, f"include {folder}/*.conf;", "}"]
    return "\n".join(lines) + "\n"


def _check_probe(modules: tuple[str, ...]) -> str:
    upstream = "upstream upswitch { server 127.0.0.1:9; check interval=1000 unique=false; }"
    return "\n".join((*modules, "events {}", "http {", upstream, f"{build.END};", "}", ""))
