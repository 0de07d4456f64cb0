"""Reading a host once: what is on disk, what runs, what nginx is and how it is configured. Nothing is assumed."""

import msgspec

from upswitch import checking
from upswitch.core import conflogs, dump, generation, nginxconf, processes, scripts
from upswitch.core.build import Build, BuildError, parse_build
from upswitch.core.checkstatus import CheckStatus
from upswitch.core.confirm import Marker
from upswitch.core.errors import HostError, NginxBrokenError
from upswitch.core.foreign import told
from upswitch.core.generation import Generation, Manifest
from upswitch.core.outcome import Live
from upswitch.core.processes import Family
from upswitch.core.site import Nginx
from upswitch.core.words import Dialect, Value
from upswitch.marker import ask_marker
from upswitch.ports import Host

_QUICK = 5.0  # seconds for a script that only looks
_PID_DIGITS = 10
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

    pid: int = 0
    family: Family | None = None
    problem: str = ""
    marker: Marker | None = None


class Facts(Value):
    """All of it. `access_logs` are those that requests to our upstreams end in; `error_log` is the master's ("": no file).

    `checked` is nginx's own view of its servers, None where it gives none.
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

    @property
    def is_conf_read(self) -> bool:
        return bool(self.conf.files)


def read_disk(host: Host, nginx: Nginx) -> Disk:
    """One script. HostError where the host can't be asked."""
    ran = host.run(scripts.look(nginx.dir), deadline=_QUICK)
    if ran.exit != 0:
        raise HostError(f"look at {nginx.dir}", told(ran.err))
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
        raise HostError(f"read the manifests in {nginx.dir}", told(ran.err) or "cut off")
    found = [generation.decode_manifest(line) for line in ran.out.splitlines()]
    return {manifest.name: manifest for manifest in found if manifest is not None}


def read_running(host: Host, nginx: Nginx, pid_file: str) -> Running:
    """The master, verified in /proc, its children, and what the marker says."""
    marker = ask_marker(host, nginx)
    chunk = host.read(pid_file) if pid_file else None
    text = chunk.data.decode("ascii", "replace").strip() if chunk else ""
    if not (text.isascii() and text.isdigit() and len(text) < _PID_DIGITS):
        fault = "holds no pid" if chunk else "does not exist"
        problem = f"{pid_file or 'the pid file'} {fault}: nginx is not running, or runs elsewhere"
        return Running(problem=problem, marker=marker)
    family = read_family(host, int(text))
    problem = processes.master_problem(int(text), family) or _upgrade_problem(host, pid_file)
    return Running(pid=int(text), family=family, problem=problem, marker=marker)


def read_family(host: Host, pid: int) -> Family:
    """HostError where /proc could not be read in time: that says nothing about the processes."""
    ran = host.run(("sh", "-c", processes.SCRIPT, "family", str(pid)), deadline=_QUICK)
    if ran.exit != 0:
        raise HostError(f"read /proc of {pid}", told(ran.err) or "cut off")
    return processes.parse_family(ran.out, master=pid)


def _upgrade_problem(host: Host, pid_file: str) -> str:
    """While a new binary takes over (USR2), a HUP to the old master does not read the configuration (ngx_process_cycle.c)."""
    old = host.read(f"{pid_file}.oldbin")
    pid = old.data.decode("ascii", "replace").strip() if old else ""
    if pid.isdigit() and len(pid) < _PID_DIGITS and read_family(host, int(pid)).master is not None:
        return f"a binary upgrade is under way ({pid_file}.oldbin names the live process {pid})"
    return ""


def glance(host: Host, nginx: Nginx) -> tuple[Disk, Running]:
    """Disk and processes without asking nginx for its configuration: what `status` and every last line need."""
    disk = read_disk(host, nginx)
    running = read_running(host, nginx, disk.manifest.pid_file if disk.manifest else "")
    if disk.manifest is None:
        problem = f"{disk.live}/manifest.json can't be read" if disk.live else "no generation of ours is live (`upswitch init`)"
        running = msgspec.structs.replace(running, problem=problem)
    return disk, running


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
    ran = host.run(scripts.nginx_version(nginx), deadline=_NGINX)
    if ran.exit != 0:
        raise NginxBrokenError(told(ran.err) or f"{nginx.binary} -V did not end")
    try:
        return parse_build(ran.err.decode("utf-8", "replace"), prefix=nginx.prefix)
    except BuildError as exc:
        raise NginxBrokenError(f"{nginx.binary} -V: {exc}") from exc


def read_conf(host: Host, nginx: Nginx, build: Build) -> dump.NginxConf:
    """The whole configuration as nginx itself reads it. NginxBrokenError where it does not pass."""
    ran = host.run(scripts.nginx_argv(nginx, build, "-T"), deadline=_NGINX)
    if ran.exit is None:
        raise NginxBrokenError(f"nginx -T did not end within {_NGINX:g} s (a name that does not resolve?)")
    if ran.exit != 0:
        raise NginxBrokenError(told(ran.err))
    try:
        return dump.parse_dump(ran.out.decode("utf-8", "replace"))
    except dump.DumpError as exc:
        raise NginxBrokenError(f"nginx -T passes, but we can't read what it prints: {exc}") from exc


def survey(host: Host, nginx: Nginx, upstreams: tuple[str, ...]) -> Facts:
    """Everything a switch needs to know, read now."""
    build = read_build(host, nginx)
    conf = read_conf(host, nginx, build)
    pid_file = nginxconf.pid_file(conf, build)
    running = read_running(host, nginx, pid_file)
    error_log = _error_log(nginx, build, conf)
    dialect = checking.read_dialect(host, nginx, build, conf)
    return Facts(
        disk=read_disk(host, nginx),
        running=running,
        build=build,
        conf=conf,
        access_logs=_access_logs(nginx, build, conf, upstreams),
        error_log=error_log,
        pid_file=pid_file,
        can_mount=host.run(scripts.can_mount(), deadline=_QUICK).exit == 0,
        dialect=dialect,
        checked=checking.ask_status(host, nginx) if dialect is not Dialect.NONE else None,
    )


def survey_without_conf(host: Host, nginx: Nginx) -> Facts:
    """For a way back from a configuration that no longer passes: what /proc, the disk and the live manifest say."""
    disk = read_disk(host, nginx)
    pid_file = disk.manifest.pid_file if disk.manifest else ""
    checked = checking.ask_status(host, nginx)
    return Facts(
        disk=disk,
        running=read_running(host, nginx, pid_file),
        build=read_build(host, nginx),
        conf=dump.NginxConf(files=(), tree=()),
        error_log=disk.manifest.error_log if disk.manifest else "",
        dialect=checked.dialect if checked else Dialect.NONE,
        checked=checked,
        pid_file=pid_file,
        can_mount=host.run(scripts.can_mount(), deadline=_QUICK).exit == 0,
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
