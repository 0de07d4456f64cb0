"""Reading a host once: what is on disk, what runs, what nginx is and how it is configured. Nothing is assumed."""

from collections.abc import Mapping, Sequence

import msgspec

from upswitch import checking, several
from upswitch.core import conflogs, dump, generation, nginxconf, processes, scripts, tree
from upswitch.core.build import Build, BuildError, parse_build
from upswitch.core.checkstatus import CheckStatus
from upswitch.core.confirm import Marker, parse_marker
from upswitch.core.errors import HostError, NginxBrokenError
from upswitch.core.generation import Generation, Manifest
from upswitch.core.outcome import Live
from upswitch.core.processes import Family
from upswitch.core.site import Nginx
from upswitch.core.words import Dialect, Value
from upswitch.marker import ask_marker, body_of
from upswitch.ports import Host, Ran

_QUICK = 5.0  # seconds for a script that only looks
_NGINX = 15.0  # seconds for `nginx -V` and `-T`; a name that does not resolve takes 10 s


class Disk(Value):
    """The upswitch folder. `live` is the generation the link points to ("" for none); `drift` names files not as staged."""

    live: str = ""
    generations: tuple[Generation, ...] = ()
    manifest: Manifest | None = None
    drift: tuple[str, ...] = ()

    @property
    def pool(self) -> str:
        return self.manifest.pool if self.manifest else ""


class Running(Value):
    """What runs. `problem` says why the master can't be trusted with a signal, "" where it can. `marker` is nginx's own answer."""

    pid_file: str = ""
    pid: int = 0
    family: Family | None = None
    problem: str = ""
    marker: Marker | None = None


class Facts(Value):
    """All of it. `access_logs` are those that requests to our upstreams end in; `error_log` is the master's ("": no file).

    `checked` is nginx's own view of its servers, None where it gives none. `live_files` are those of the live generation by name;
    empty where they were not read.
    """

    disk: Disk
    running: Running
    build: Build
    conf: dump.NginxConf
    access_logs: tuple[conflogs.AccessLog, ...] = ()
    error_log: str = ""
    pid_file: str = ""
    can_mount: bool = False
    dialect: Dialect = Dialect.NONE
    checked: CheckStatus | None = None
    live_files: Mapping[str, bytes] = {}

    @property
    def is_conf_read(self) -> bool:
        return bool(self.conf.files)


def read_disk(host: Host, nginx: Nginx) -> Disk:
    """One script. HostError where the host can't be asked."""
    return _disk(nginx, host.run(scripts.look(nginx.dir), deadline=_QUICK))


def _disk(nginx: Nginx, ran: Ran) -> Disk:
    if ran.exit != 0:
        raise HostError(f"look at {nginx.dir}", ran.words)
    found: dict[str, list[str]] = {"live": [], "generation": [], "sum": [], "manifest": []}
    for line in ran.out.decode("utf-8", "backslashreplace").splitlines():
        kind, _, rest = line.partition(" ")
        found.setdefault(kind, []).append(rest)
    folder, _, live = "".join(found["live"]).partition("/")
    manifest = generation.decode_manifest(found["manifest"][0].encode()) if found["manifest"] else None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in found["sum"])}
    return Disk(
        live=live if folder == "generations" and generation.parse_name(live) else "",
        generations=generation.parse_names(found["generation"]),
        manifest=manifest,
        drift=_drift(sums, manifest) if live else (),
    )


def _drift(sums: dict[str, str], manifest: Manifest | None) -> tuple[str, ...]:
    """Names of live files that differ from the manifest, are missing, or are not in it."""
    if manifest is None:
        return ("manifest.json",)
    expected = {name: digest for name, digest in manifest.sha256.items() if name.endswith(".conf")}
    return tuple(sorted(name for name in expected.keys() | sums.keys() if expected.get(name) != sums.get(name)))


def read_manifests(host: Host, nginx: Nginx) -> dict[str, Manifest]:
    """Every generation's manifest by name; a folder without a readable one is left out."""
    ran = host.run(scripts.manifests(nginx.dir), deadline=_QUICK)
    if ran.exit != 0:
        raise HostError(f"read the manifests in {nginx.dir}", ran.words)
    found = [generation.decode_manifest(line) for line in ran.out.splitlines()]
    return {manifest.name: manifest for manifest in found if manifest is not None}


def read_running(host: Host, nginx: Nginx, pid_file: str) -> Running:
    """The master, verified in /proc, its children, and what the marker says."""
    if not pid_file:
        return Running(problem=_NO_PID_FILE, marker=ask_marker(host, nginx))
    return _running(host, nginx, host.run(processes.look(nginx.dir, nginx.marker, pid_file=pid_file), deadline=_QUICK))


_NO_PID_FILE = "the pid file does not exist: nginx is not running, or runs elsewhere"


def _running(host: Host, nginx: Nginx, ran: Ran) -> Running:
    if ran.exit != 0:
        raise HostError("look at nginx's processes", ran.words)
    seen = processes.parse_look(ran.out)
    body = body_of(seen.reply)
    marker = parse_marker(body) if body is not None else ask_marker(host, nginx)
    if seen.family is None:
        problem = f"{seen.pid_file} {seen.fault}: nginx is not running, or runs elsewhere" if seen.pid_file else _NO_PID_FILE
        return Running(pid_file=seen.pid_file, problem=problem, marker=marker)
    problem = processes.problem(seen) or ""
    return Running(pid_file=seen.pid_file, pid=seen.pid, family=seen.family, problem=problem, marker=marker)


def read_family(host: Host, pid: int) -> Family:
    """HostError where /proc could not be read in time: that says nothing about the processes."""
    ran = host.run(("sh", "-c", processes.SCRIPT, "family", str(pid)), deadline=_QUICK)
    if ran.exit != 0:
        raise HostError(f"read /proc of {pid}", ran.words)
    return processes.parse_family(ran.out, master=pid)


def glance(host: Host, nginx: Nginx) -> tuple[Disk, Running]:
    """Disk and processes without asking nginx for its configuration: what `status` and every last line need. One script."""
    return glanced(host, nginx, several.run(host, looks(nginx), deadline=_QUICK))


def looks(nginx: Nginx) -> tuple[tuple[str, ...], ...]:
    """The two commands of a glance."""
    return scripts.look(nginx.dir), processes.look(nginx.dir, nginx.marker)


def amiss(disk: Disk, running: Running, *, want: str) -> str:
    """Why this is no host that could be left with the generation `want`; "" where it is one."""
    answer = running.marker.generation if running.marker else "nothing"
    if disk.live == answer == want and not running.problem:
        return ""
    return f"disk says {disk.live or 'nothing'}, nginx answers {answer}; wanted {want}. {running.problem}".strip()


def glanced(host: Host, nginx: Nginx, seen: Sequence[Ran]) -> tuple[Disk, Running]:
    """What they found. The pid file is the one that the live manifest names."""
    disk, running = _disk(nginx, seen[0]), _running(host, nginx, seen[1])
    if disk.manifest is None:
        problem = f"{disk.live}/manifest.json can't be read" if disk.live else "no generation of ours is live (`upswitch init`)"
        return disk, msgspec.structs.replace(running, problem=problem)
    return disk, _of(host, nginx, running, disk.manifest.pid_file)


def _of(host: Host, nginx: Nginx, running: Running, pid_file: str) -> Running:
    """`running` where it is that of `pid_file`; else read anew."""
    return running if running.pid_file == pid_file else read_running(host, nginx, pid_file)


def live_now(host: Host, nginx: Nginx) -> Live:
    """What serves, read now. A host that can't be read is said to be so."""
    try:
        disk, running = glance(host, nginx)
    except HostError as exc:
        return Live(disk="", running="", pool="", problem=str(exc))
    return live(disk, running)


def live(disk: Disk, running: Running) -> Live:
    """One glance in a sentence's worth of words."""
    problem = running.problem or (f"edited on disk: {', '.join(disk.drift)}" if disk.drift else "")
    return Live(disk=disk.live, running=running.marker.generation if running.marker else "", pool=disk.pool, problem=problem)


def read_build(host: Host, nginx: Nginx) -> Build:
    return _build(nginx, host.run(scripts.nginx_version(nginx), deadline=_NGINX))


def _build(nginx: Nginx, ran: Ran) -> Build:
    if ran.exit != 0:
        raise NginxBrokenError(f"{nginx.binary} -V: {ran.words}" if ran.why else ran.words)
    try:
        return parse_build(ran.err.decode("utf-8", "replace"), prefix=nginx.prefix)
    except BuildError as exc:
        raise NginxBrokenError(f"{nginx.binary} -V: {exc}") from exc


def read_conf(host: Host, nginx: Nginx, build: Build) -> dump.NginxConf:
    """The whole configuration as nginx itself reads it. NginxBrokenError where it does not pass."""
    return _conf(host.run(scripts.nginx_argv(nginx, build, "-T"), deadline=_NGINX))


def _conf(ran: Ran) -> dump.NginxConf:
    if ran.exit is None:
        raise NginxBrokenError(f"nginx -T was cut off after at most {_NGINX:g} s (a name that does not resolve?): {ran.words}")
    if ran.exit != 0:
        raise NginxBrokenError(ran.words)
    try:
        return dump.parse_dump(ran.out.decode("utf-8", "replace"))
    except dump.DumpError as exc:
        raise NginxBrokenError(f"nginx -T passes, but we can't read what it prints: {exc}") from exc


def survey(host: Host, nginx: Nginx, upstreams: tuple[str, ...]) -> Facts:
    """Everything a switch needs to know, read now: one script, and a second one where what it took for granted is not so."""
    commands = (
        scripts.nginx_version(nginx),
        scripts.dump(nginx, seconds=_NGINX),
        scripts.probe_check(nginx, modules=()),
        *looks(nginx),
        scripts.can_mount(),
        scripts.fetch_live(nginx.dir),
    )
    version, dumped, checked, disk, running, mounted, live = several.run(host, commands, deadline=3 * _NGINX)
    build, conf = _build(nginx, version), _conf(dumped)
    pid_file = nginxconf.pid_file(conf, build)
    dialect = checking.read_dialect(host, nginx, conf, seen=checked)
    return Facts(
        disk=_disk(nginx, disk),
        live_files=_files(live),
        running=_of(host, nginx, _running(host, nginx, running), pid_file),
        build=build,
        conf=conf,
        access_logs=_access_logs(nginx, build, conf, upstreams),
        error_log=_error_log(nginx, build, conf),
        pid_file=pid_file,
        can_mount=mounted.exit == 0,
        dialect=dialect,
        checked=checking.ask_status(host, nginx) if dialect is not Dialect.NONE else None,
    )


def _files(ran: Ran) -> dict[str, bytes]:
    """None of them where they can't be read: whoever needs them says so."""
    try:
        return tree.unpack(ran.out) if ran.exit == 0 else {}
    except ValueError:
        return {}


def survey_without_conf(host: Host, nginx: Nginx) -> Facts:
    """For a way back from a configuration that no longer passes: what /proc, the disk and the live manifest say."""
    commands = (*looks(nginx), scripts.nginx_version(nginx), scripts.can_mount())
    *seen, version, mounted = several.run(host, commands, deadline=_NGINX)
    disk, running = glanced(host, nginx, seen)
    checked = checking.ask_status(host, nginx)
    return Facts(
        disk=disk,
        running=running,
        build=_build(nginx, version),
        conf=dump.NginxConf(files=(), tree=()),
        error_log=disk.manifest.error_log if disk.manifest else "",
        dialect=checked.dialect if checked else Dialect.NONE,
        checked=checked,
        pid_file=running.pid_file,
        can_mount=mounted.exit == 0,
    )


def _access_logs(nginx: Nginx, build: Build, conf: dump.NginxConf, upstreams: tuple[str, ...]) -> tuple[conflogs.AccessLog, ...]:
    logs = conflogs.access_logs(conf, build)
    if nginx.access_log != "auto":
        return tuple(log for log in logs if log.path == nginx.access_log)
    ours = tuple(log for log in logs if set(log.upstreams) & set(upstreams))
    return ours or logs


def _error_log(nginx: Nginx, build: Build, conf: dump.NginxConf) -> str:
    if nginx.error_log != "auto":
        return nginx.error_log
    return next((log.path for log in conflogs.error_logs(conf, build) if log.is_file), "")
