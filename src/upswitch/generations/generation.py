"""A generation as a value: its name, its manifest and its files.

A number is never used twice: a pending reload of an old run would otherwise be taken for ours (an ABA error, seen in 4 of 84
recoveries). So a rollback copies the former generation's files under a new number.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from upswitch.basics.value import Value
from upswitch.generations import once
from upswitch.generations.check_lines import trusted, trusting
from upswitch.nginx import configuration
from upswitch.nginx.build import Build
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.statements import StatementError, tokens
from upswitch.site.model import BETWEEN, Check, Dialect, Generation, Site, Upstream, parse_name
from upswitch.site.names import UNNAMED, prefix_of
from upswitch.site.server_line import is_address, probe_address

KEEP = 10
"""So many generations stay on disk."""
MARKER = "marker.conf"
MANIFEST = "manifest.json"
STANDBY = "standby.conf"

Addresses = Mapping[str, tuple[str, ...]]
"""By upstream: IP:PORT, [IP6]:PORT or unix:/path."""


class Manifest(Value):
    """What a generation's folder holds and where it comes from.

    `sha256` is by file name. `replaces` is the generation that was live when this one was staged. `copy_of` is set by a rollback:
    the generation whose files these are. `servers` are the pool's servers by upstream, as nginx logs them. `sources`, by upstream:
    where they come from, if not from the site file. `marker`, `pid_file` and `error_log` are where nginx had them then, so that
    `status` need not run `nginx -T`. `prefix` begins the names of the nginx variables; "" is UNNAMED.
    """

    name: str
    pool: str
    sha256: dict[str, str]
    replaces: str = ""
    copy_of: str = ""
    made_by: str = ""
    made_at: str = ""
    servers: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    sources: dict[str, str] = msgspec.field(default_factory=dict)
    marker: str = ""
    pid_file: str = ""
    error_log: str = ""
    prefix: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """The servers of all upstreams, each once."""
        return tuple(dict.fromkeys(address for servers in self.servers.values() for address in servers))


class File(Value):
    """One file of a generation. `name` has no folder."""

    name: str
    text: str


class Standby(Value):
    """One upstream that no location uses. It holds addresses only: a name that stops resolving would keep nginx from starting."""

    name: str
    addresses: tuple[str, ...]
    check: Check


class Rendering(Value):
    """What one generation is besides the site. `min_timeout`, `drain_flag` and `check_shm_size` "" leave their lines out.

    `prefix` begins the names of its nginx variables.
    """

    generation: str
    pool: str
    min_timeout: str
    drain_flag: str
    stub_status: bool
    dialect: Dialect = Dialect.NONE
    check_shm_size: str = ""
    prefix: str = UNNAMED
    standbys: tuple[Standby, ...] = ()


class Live(Value):
    """What serves on one host, as it was just read. "" means that it could not be read; before `init` it is not managed.

    `held_down` are the upstreams in which nginx's own health check calls every server down. `is_failing`: no server
    of an upstream is there for clients, as somebody has just seen. `is_dead`: upswitch's health checks found no healthy one.
    """

    disk: str
    running: str
    pool: str
    problem: str = ""
    is_managed: bool = True
    held_down: tuple[str, ...] = ()
    is_failing: bool = False
    is_dead: bool = False

    @property
    def agrees(self) -> bool:
        return self.disk != "" and self.disk == self.running and not self.problem

    @property
    def serves(self) -> bool:
        """Whether one generation was proved, and nothing is known that keeps its servers from clients."""
        return self.agrees and not self.is_failing and not self.is_dead and not self.held_down

    @property
    def text(self) -> str:
        """One sentence: which pool, and how we know."""
        if self.agrees:
            said = f"nginx reports generation {self.running} and the live link points to it (checked just now)"
            wrong = " and ".join(self._wrong)
            return f"{self.pool} {f'is live, but {wrong}' if wrong else 'serves'}: {said}"
        if not self.is_managed:
            return "nginx is not managed by upswitch yet; it serves as before"
        said = f"nginx reports {self.running or 'no generation'}, the live link points to {self.disk or 'no generation'}"
        return f"NOT PROVED: {said}" + (f"; {self.problem}" if self.problem else "")

    @property
    def _wrong(self) -> Iterator[str]:
        if self.is_failing:
            yield "requests FAIL"
        elif self.is_dead:
            yield "upswitch's health checks FAIL"
        if self.held_down:
            yield f"nginx's own health check holds every server of {', '.join(self.held_down)} down"


# ---- numbers ----


def next_number(present: Iterable[Generation], used: Iterable[str]) -> int:
    """One above every number on disk and every number in the journal."""
    numbers = [generation.number for generation in present]
    numbers += [generation.number for generation in map(parse_name, used) if generation is not None]
    return max(numbers, default=0) + 1


def way_back(live: str, manifests: Mapping[str, Manifest]) -> str | None:
    """The generation that `rollback` leads to: the one that the live one replaced. None where there is none on disk."""
    manifest = manifests.get(live)
    return manifest.replaces if manifest and manifest.replaces in manifests else None


def to_prune(present: Iterable[Generation], keep: Iterable[str]) -> tuple[str, ...]:
    """Names of the generations that may be deleted: all but the KEEP highest and those in `keep`."""
    names = [generation.name for generation in sorted(present, key=lambda generation: generation.number)]
    kept = {*names[-KEEP:], *keep}
    return tuple(name for name in names if name not in kept)


# ---- standbys: idle pools whose servers nginx checks before they serve ----
#
# nginx carries a server's state over a reload by its address, whatever upstream it stood in (nginx-facts.md, section 6). So a
# server that is up as a standby is up from the first request after the switch.


def standby_name(upstream: str, pool: str) -> str:
    return f"{upstream}{BETWEEN}{pool}"


def served_as(name: str, live_pool: str) -> tuple[str, str]:
    """The upstream and the pool that an upstream of ours stands for."""
    upstream, _, pool = name.partition(BETWEEN)
    return upstream, pool or live_pool


def standbys(site: Site, serving: Addresses, *, known: Mapping[str, Addresses], former: Manifest | None) -> tuple[Standby, ...]:
    """The standbys of a generation that serves with `serving`: the site's other servers (`known`, by pool), and those of `former`.

    `former` serves now, and a rollback must find its servers up: they begin as up, and servers that are new in its pool stay out
    until a switch to them. An upstream without a check needs no standby, as nginx takes its servers for up.
    """
    pools = {**known, **({former.pool: former.servers} if former else {})}
    found = []
    for upstream in site.upstreams:
        for pool, servers in pools.items():
            check = trusted(upstream.check) if former and former.pool == pool else upstream.check
            others = _addresses(upstream, servers) - set(serving.get(upstream.name, ()))
            if check is not None and others:
                found.append(Standby(name=standby_name(upstream.name, pool), addresses=tuple(sorted(others)), check=check))
    return tuple(found)


def _addresses(upstream: Upstream, servers: Addresses) -> set[str]:
    """Without those that the site file marks `down`: nginx is not to check them."""
    off = {probe_address(server, 0) for pool in upstream.pools for server in pool.servers if server.is_down}
    return {each for each in servers.get(upstream.name, ()) if is_address(each) and each not in off}


# ---- files ----


def rendering(site: Site, build: Build, conf: NginxConf, name: Generation, *, dialect: Dialect) -> Rendering:
    """What a generation holds on this nginx: its dialect of `check`, and what keeps a reload from losing requests there."""
    nginx, seconds = site.nginx, site.nginx.drain
    has_min_timeout = build.has_min_timeout and once.may_hold(conf, "keepalive_min_timeout", live=nginx.live)
    has_size = dialect is not Dialect.NONE and once.may_hold(conf, "check_shm_size", live=nginx.live)
    return Rendering(
        generation=name.name,
        pool=name.pool,
        min_timeout=f"{round(seconds * 1000)}ms" if seconds > 0 and has_min_timeout else "",
        drain_flag=nginx.drain_flag if seconds > 0 and build.needs_drain_flag else "",
        stub_status=build.has_stub_status,
        dialect=dialect,
        check_shm_size=nginx.check_shm_size if has_size else "",
        prefix=configuration.variable_prefix(conf, live=nginx.live, otherwise=prefix_of(site.name)),
    )


def copied(files: Mapping[str, bytes], *, of: str, name: str, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The files of generation `of` under a new name: byte for byte, but for `default_down` and the marker.

    These servers have served before, so nginx's own check begins with them as up (see `trusting`). `without`: lines that the marker
    must not hold any more (once.py).
    """
    return {
        file: _marked(data, of=of, name=name, without=without) if file == MARKER else _trusting(data)
        for file, data in files.items()
        if file.endswith(".conf")
    }


def _marked(data: bytes, *, of: str, name: str, without: tuple[str, ...]) -> bytes:
    """The marker under a new name. Older ones answered with a variable, which another site on this nginx may define too."""
    renamed = data.replace(of.encode(), name.encode())
    text = renamed.replace(b'return 200 "$upswitch_generation $pid', f'return 200 "{name} $pid'.encode()).decode("utf-8", "replace")
    return once.without(text, without).encode()


def encoded(files: Iterable[File]) -> dict[str, bytes]:
    return {file.name: file.text.encode() for file in files}


def with_manifest(files: Mapping[str, bytes], manifest: Manifest) -> dict[str, bytes]:
    """The complete folder of a generation. The manifest's hashes are filled in here."""
    complete = msgspec.structs.replace(manifest, sha256={name: digest(data) for name, data in files.items()})
    return {**files, MANIFEST: encode_manifest(complete)}


def encode_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest | None:
    """None where the bytes are no manifest of ours."""
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.MsgspecError:
        return None


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_same(new: Mapping[str, bytes], live: Mapping[str, bytes], *, names: tuple[str, str]) -> bool:
    """Whether a switch would change nothing: the same files with the same tokens.

    The generations' `names` (new, live) may differ, and so may `default_down`: it is false in what serves, whatever the site says.
    """
    renamed = {name: _trusting(data.replace(names[0].encode(), names[1].encode())) for name, data in new.items()}
    configured = {name: _trusting(data) for name, data in live.items() if name.endswith(".conf")}
    if renamed.keys() != configured.keys():
        return False
    try:
        return all(_tokens(data) == _tokens(configured[name]) for name, data in renamed.items())
    except StatementError:
        return False  # a live file that can't be read is not what we would write


def _trusting(data: bytes) -> bytes:
    """A file that can't be read stays as it is: nginx served it, and nginx judges it."""
    try:
        return trusting(data.decode()).encode()
    except (UnicodeDecodeError, StatementError):
        return data


def _tokens(data: bytes) -> tuple[str, ...]:
    return tokens(data.decode("utf-8", "replace"))
