"""`init` on the layout of the issue: nginx.conf includes upstreamA.conf, upstreamB.conf lies beside it, and nginx serves."""

import os
import re
import shlex
import socket
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from command import upswitch
from forked import popen_upswitch
from here import OWNER, TEMPLATES, ports
from terminal import terminal
from upswitch.basics.errors import RefusedError, StuckError
from upswitch.cli.commands.init import init
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.init.adopt import InitRequest
from upswitch.init.apply import apply
from upswitch.init.propose import propose
from upswitch.site.model import Nginx
from upswitch.site.read import parse_site
from upswitch_lab.lab import Load, Server
from upswitch_lab.process import Process, ask, free_port, is_listening, until

CHECK = "check interval=30000 rise=3 fall=3 timeout=30000 type=tcp;"


class Owner:
    """Somebody's nginx. No nginx here has the check module: the live file has its check line commented out, B's has it."""

    def __init__(self, binary, folder, conf="nginx.conf", *, inline=False):
        self.binary, self.folder = binary, folder
        self.public = f"127.0.0.1:{free_port('127.0.0.1')}"
        self.marker = f"127.0.84.1:{free_port('127.0.84.1')}"
        self.servers = [Server(name, free_port("127.0.0.1"), folder / f"{name}.out") for name in ("A1", "B1")]
        for server in self.servers:
            server.await_listening()
        a, b = self.servers
        block = self.upstream(a, f"# {CHECK}")
        (folder / "upstreamA.conf").write_text(block)
        (folder / "upstreamB.conf").write_text(self.upstream(b, CHECK))
        (folder / "temp").mkdir()
        folder.chmod(0o755)
        self._write(conf, block if inline else "include upstreamA.conf;  # the live one")
        self.nginx = None
        self.start()

    def upstream(self, server, check):
        return f"upstream tornado_servers {{\n    server {server.address} weight=100;\n    {check}\n}}\n"

    def _write(self, conf, upstreams):
        folder = self.folder
        temps = "".join(f"    {kind}_temp_path temp/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        server = f"    server {{ listen {self.public}; location / {{ proxy_pass http://tornado_servers; }} }}\n"
        http = f"    access_log access.log;\n{temps}    {upstreams}\n{server}"
        user = "user root root;\n" if os.geteuid() == 0 else ""
        main = f"{user}daemon off;\nworker_processes 2;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        inner = http if conf == "nginx.conf" else f"    include {conf};\n"
        (folder / "nginx.conf").write_text(f"{main}http {{\n{inner}}}\n")
        if conf != "nginx.conf":
            (folder / conf).parent.mkdir()
            (folder / conf).write_text(http)

    @property
    def argv(self):
        return (self.binary, "-p", str(self.folder), "-c", f"{self.folder}/nginx.conf", "-e", f"{self.folder}/error.log")

    def start(self):
        with (self.folder / "out").open("ab") as out:
            self.nginx = Process(self.argv, out=out)
        until(lambda: is_listening(self.public) or not self.nginx.is_alive, what="nginx")
        assert self.nginx.is_alive, (self.folder / "error.log").read_text() + (self.folder / "out").read_text()

    def stop(self):
        self.nginx.end()
        until(lambda: not is_listening(self.public), what="the end of nginx")

    def end(self):
        self.nginx.end()
        for server in self.servers:
            server.end()

    def request(self, path="upstreamA.conf", **changed):
        folder = self.folder
        nginx = Nginx(
            binary=self.binary,
            conf=f"{folder}/nginx.conf",
            prefix=str(folder),
            dir=f"{folder}/upswitch",
            state=f"{folder}/state",
            reload=(*self.argv, "-s", "reload"),
            marker=self.marker,
            drain_flag=f"{folder}/run/drain",
        )
        request = InitRequest(from_path=f"{folder}/{path}", pool="A", nginx=nginx, out=f"{folder}/upswitch.toml")
        return msgspec.structs.replace(request, nginx=msgspec.structs.replace(nginx, **changed))

    @property
    def site_file(self):
        return self.folder / "upswitch.toml"

    @property
    def places(self):
        """The options of the command line."""
        nginx = self.request().nginx
        keys = ("binary", "prefix", "dir", "state", "marker", "drain_flag")
        return [f"--nginx-conf={nginx.conf}", *(f"--{key.replace('_', '-')}={getattr(nginx, key)}" for key in keys)]

    def init(self, *words):
        """By the command line."""
        return upswitch(self, "init", f"--from={self.folder}/upstreamA.conf", "--pool=A", "--no-log", *self.places, *words)

    def propose(self, request=None, templates=TEMPLATES):
        request = request or self.request()
        return propose(ports(request.nginx), request, templates)

    def files(self):
        """Every file and link of the configuration with its content; logs and our state are left out."""
        names = [path for path in self.folder.rglob("*") if not path.is_dir() or path.is_symlink()]
        ours = [
            path
            for path in names
            if path.suffix not in {".log", ".out", ".pid"} and path.name not in {"out", "lock", "epoch", "lease"}
        ]
        return {str(path.relative_to(self.folder)): os.readlink(path) if path.is_symlink() else path.read_bytes() for path in ours}

    def says(self):
        return ask(self.public, "/")

    def marked(self):
        try:
            return ask(self.marker, "/")[1].split(" ")[0]
        except OSError:
            return ""

    def passes(self):
        return subprocess.run((*self.argv, "-t"), capture_output=True, check=False, timeout=20).returncode == 0


class NoMount(LocalHost):
    """A host where nobody may make a mount namespace, as in most containers."""

    def run(self, argv, *, deadline, stdin=b"", holds_lock=False):
        argv = tuple("false" if word == "unshare" else word for word in argv)
        return super().run(argv, deadline=deadline, stdin=stdin, holds_lock=holds_lock)


class Killed(BaseException):
    """Nothing runs after a kill -9: neither do we."""


class Watched(LocalHost):
    """Calls `after` once the act of this name is done. A killed one does nothing any more."""

    def __init__(self, clock, name="", after=lambda: None):
        super().__init__(clock)
        self.name, self.after, self.done, self.is_dead = name, after, [], False

    def run(self, argv, *, deadline, stdin=b"", holds_lock=False):
        self._alive()
        ran = super().run(argv, deadline=deadline, stdin=stdin, holds_lock=holds_lock)
        self._did("reload" if argv[-1] == "reload" else argv[3] if argv[:2] == ("sh", "-c") else argv[0])
        return ran

    def write(self, path, data, *, mode):
        self._alive()
        super().write(path, data, mode=mode)
        self._did(f"write {os.path.basename(path)}")

    def _alive(self):
        if self.is_dead:
            raise Killed

    def _did(self, name):
        self.done.append(name)
        if name == self.name:
            self.after()

    def kill(self):
        self.is_dead = True
        raise Killed


@pytest.fixture
def owner(any_nginx, tmp_path):
    yield from _owner(any_nginx, tmp_path)


def _owner(nginx, folder, **options):
    for parent in (folder, *folder.parents[:2]):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & stat.S_ISVTX:  # never /tmp itself
            parent.chmod(0o755)
    owner = Owner(nginx, folder, **options)
    try:
        yield owner
    finally:
        owner.end()


def _append(path, data):
    path.write_bytes(path.read_bytes() + data)


def test_a_proposal_writes_nothing_and_holds_both_pools_and_one_changed_line(owner):
    before = owner.files()
    proposal = owner.propose()
    assert owner.files() == before
    assert parse_site(proposal.site_text).pools == ("A", "B")
    assert proposal.generation == "000001-A"
    assert set(proposal.files) == {"upstreamA.conf", "marker.conf", "manifest.json"}
    changed = [line for line in proposal.diff.splitlines() if line[0] in "+-" and line[:3] not in ("+++", "---")]
    live = f"include {owner.folder}/upswitch/live/*.conf;"
    assert changed == ["-    include upstreamA.conf;  # the live one", f"+    {live}  # the live one"]


@pytest.mark.every_nginx
def test_a_proposal_advises_on_drain_lines_and_the_log_format(owner, any_nginx):
    proposal = owner.propose()
    needs_flag = "1.22" in subprocess.run((any_nginx, "-v"), capture_output=True, check=True, text=True).stderr
    assert [each.block for each in proposal.drain_lines] == (["server", "location /"] if needs_flag else [])
    assert "$upswitch_tornado_servers_generation" in proposal.log_format
    assert proposal.logs == (f"{owner.folder}/access.log",)


def test_apply_makes_nginx_answer_the_marker_while_it_serves_on(owner):
    original = (owner.folder / "nginx.conf").read_bytes()
    load = Load(f"http://{owner.public}/", owner.folder / "load.out", ("--connections", "4", "--think", "5"))
    try:
        load.await_flowing()
        proposal = owner.propose()
        applied = apply(ports(owner.request().nginx), proposal, OWNER)
        load.finish()
    finally:
        load.end()
    assert set(load.summary.status) == {"200"}
    assert load.summary.failed == load.summary.lost
    assert owner.marked() == applied.generation == "000001-A"
    assert "untouched" in applied.tested
    assert os.readlink(owner.folder / "upswitch/live") == "generations/000001-A"
    assert Path(applied.backups[0]).read_bytes() == original
    assert (owner.folder / "upswitch.toml").read_text() == proposal.site_text
    with pytest.raises(RefusedError, match="adopted before"):
        owner.propose()
    owner.stop()
    owner.start()
    assert owner.says() == (200, "A1\n")


def test_init_is_undone_where_requests_are_not_served_any_more_and_says_so_where_they_were_not_before(owner):
    class Dying(LocalHost):
        """The servers end while the edit is written."""

        def write(self, path, data, **how):
            for server in owner.servers if path == proposal.edits[0].path else ():
                server.end()
            return super().write(path, data, **how)

    proposal, before = owner.propose(), owner.files()
    with pytest.raises(RefusedError, match=r"requests that were answered before are not answered now: .*: status 502"):
        apply(ports(owner.request().nginx, Dying(SystemClock())), proposal, OWNER)
    assert owner.files().items() >= before.items()
    adopted = owner.init("--apply")
    assert adopted.json["unserved"] == [f"http://{owner.public}/ (tornado_servers): status 502"]
    assert owner.marked() == adopted.json["generation"]
    for answer in (adopted, upswitch(owner, "status")):
        assert answer.exit == 3
        assert answer.json["production"]["text"].startswith("A is live, but requests FAIL: nginx reports")


@pytest.mark.parametrize(
    ("options", "path"), [({"inline": True}, "nginx.conf"), ({"conf": "sites/app", "inline": True}, "sites/app")]
)
def test_a_block_among_other_things_is_adopted_without_a_mount(any_nginx, tmp_path, options, path):
    for owner in _owner(any_nginx, tmp_path, **options):
        request = owner.request(path)
        applied = apply(ports(request.nginx, NoMount(SystemClock())), owner.propose(request), OWNER)
        assert ("after the edit" in applied.tested) == (path != "nginx.conf")
        assert (owner.marked(), owner.says()) == ("000001-A", (200, "A1\n"))


def _split(owner):
    """Its server in one included file, and the location in another, which two servers share."""
    owner.stop()
    conf = owner.folder / "nginx.conf"
    server = f"server {{\n    listen {owner.public};\n    include locations.conf;\n}}\n"
    location = next(line for line in conf.read_text().splitlines() if "location /" in line)
    conf.write_text(conf.read_text().replace(location, "    include site.conf;"))
    (owner.folder / "site.conf").write_text(server + server.replace("listen", "server_name other; listen"))
    (owner.folder / "locations.conf").write_text("location / {\n    proxy_pass http://tornado_servers;\n}\n")
    owner.start()
    return ("nginx.conf", "site.conf", "locations.conf")


@pytest.fixture
def split_owner(old_nginx, tmp_path):
    for owner in _owner(old_nginx, tmp_path):
        _split(owner)
        yield owner


def with_lines(owner):
    return msgspec.structs.replace(owner.request(), drain_lines=True)


@pytest.mark.parametrize("host", [LocalHost, NoMount])
def test_with_drain_lines_every_file_is_edited_with_a_backup_and_the_flag_closes_connections(split_owner, host):
    owner, request = split_owner, with_lines(split_owner)
    names = ("nginx.conf", "site.conf", "locations.conf")
    before = [(owner.folder / name).read_bytes() for name in names]
    proposal = owner.propose(request)
    assert [Path(edit.path).name for edit in proposal.edits] == [*names]
    assert proposal.drain_lines == ()
    assert [(owner.folder / name).read_bytes() for name in names] == before
    applied = apply(ports(request.nginx, host(SystemClock())), proposal, OWNER)
    assert [Path(backup).read_bytes() for backup in applied.backups] == before
    assert owner.marked() == "000001-A"
    assert not list((owner.folder / "upswitch").glob(".edit*"))
    assert _closes(owner) is False
    (owner.folder / "run").mkdir(exist_ok=True)
    (owner.folder / "run/drain").touch()
    assert _closes(owner) is True


def _closes(owner):
    """Whether nginx closes the connection after an answer."""
    address, _, port = owner.public.partition(":")
    with socket.create_connection((address, int(port)), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: other\r\n\r\n")
        return b"\r\nConnection: close\r\n" in client.recv(65536)


def test_if_nginx_refuses_the_reload_every_file_with_drain_lines_is_as_it_was(split_owner):
    owner, before = split_owner, split_owner.files()
    host, port = owner.marker.split(":")
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def steal():
            thief.bind((host, int(port)))
            thief.listen()

        proposal = owner.propose(with_lines(owner))
        with pytest.raises(RefusedError, match=r"rejected: .*bind"):
            apply(ports(owner.request().nginx, Watched(SystemClock(), "write site.conf", steal)), proposal, OWNER)
    assert owner.files() == before
    assert owner.says() == (200, "A1\n")


@pytest.mark.parametrize("name", ["test_covered", "write nginx.conf", "write site.conf", "write locations.conf"])
def test_after_a_kill_between_two_edits_nginx_starts_and_serves_the_same_pool(split_owner, name):
    owner, host = split_owner, Watched(SystemClock(), name)
    host.after = host.kill
    with suppress(Killed):
        apply(ports(owner.request().nginx, host), owner.propose(with_lines(owner)), OWNER)
    assert host.is_dead
    assert owner.passes()
    owner.stop()
    owner.start()
    assert owner.says() == (200, "A1\n")


def test_old_drain_lines_are_left_for_their_owner_and_named(old_nginx, tmp_path):
    for owner in _owner(old_nginx, tmp_path):
        owner.stop()
        conf = owner.folder / "nginx.conf"
        old = f"if (-f {owner.folder}/run/drain) {{ return 418; }} error_page 418 = @d; proxy_pass"
        named = "location @d { keepalive_timeout 0; proxy_pass http://tornado_servers; } location / {"
        conf.write_text(conf.read_text().replace("proxy_pass", old).replace("location / {", named))
        owner.start()
        proposal = owner.propose(with_lines(owner))
        assert proposal.drain_lines[-1].remove[0].endswith(f"and location @d at {conf}:15")
        assert "$upswitch_uri $uri" not in proposal.edits[0].new


def test_a_symlinked_configuration_stays_a_symlink(owner):
    (owner.folder / "real").mkdir()
    (owner.folder / "nginx.conf").rename(owner.folder / "real/nginx.conf")
    (owner.folder / "nginx.conf").symlink_to("real/nginx.conf")
    proposal = owner.propose()
    assert "real/nginx.conf" in proposal.notes[0]
    apply(ports(owner.request().nginx), proposal, OWNER)
    assert (owner.folder / "nginx.conf").is_symlink()
    assert owner.marked() == "000001-A"


def test_a_backup_has_the_owner_and_mode_of_its_file_and_never_replaces_another(owner):
    conf = owner.folder / "nginx.conf"
    conf.chmod(0o640)
    (owner.folder / "nginx.conf.upswitch-backup").write_text("older")
    applied = apply(ports(owner.request().nginx), owner.propose(), OWNER)
    assert applied.backups[0] == f"{conf}.upswitch-backup.1"
    assert [path.stat().st_mode & 0o777 for path in (conf, Path(applied.backups[0]))] == [0o640, 0o640]
    assert (owner.folder / "nginx.conf.upswitch-backup").read_text() == "older"


def test_a_backup_hides_from_a_pattern_that_would_read_it(any_nginx, tmp_path):
    for owner in _owner(any_nginx, tmp_path, conf="sites/app", inline=True):
        conf = owner.folder / "nginx.conf"
        conf.write_text(conf.read_text().replace("include sites/app;", "include sites/*;"))
        request = owner.request("sites/app")
        applied = apply(ports(request.nginx), owner.propose(request), OWNER)
        assert Path(applied.backups[0]).name == ".app.upswitch-backup"
        assert owner.passes()


@pytest.mark.parametrize("host", [LocalHost, NoMount])
def test_an_edit_that_nginx_refuses_leaves_everything_as_it_was(owner, host):
    before = owner.files()
    broken = {**TEMPLATES, "marker.conf.j2": "nonsense on;\n"}
    with pytest.raises(RefusedError, match='unknown directive "nonsense"'):
        apply(ports(owner.request().nginx, host(SystemClock())), owner.propose(templates=broken), OWNER)
    assert owner.files() == before
    assert owner.says() == (200, "A1\n")


def test_a_broken_edit_of_an_included_file_without_a_mount_is_never_live(any_nginx, tmp_path):
    for owner in _owner(any_nginx, tmp_path, conf="sites/app", inline=True):
        before = owner.files()
        request = owner.request("sites/app")
        broken = {**TEMPLATES, "marker.conf.j2": "nonsense on;\n"}
        with pytest.raises(RefusedError, match="the generation alone"):
            apply(ports(request.nginx, NoMount(SystemClock())), owner.propose(request, broken), OWNER)
        assert owner.files() == before


def test_if_the_marker_port_is_taken_meanwhile_the_reload_finds_it_and_init_is_undone(owner):
    before = owner.files()
    host, port = owner.marker.split(":")
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def steal():
            thief.bind((host, int(port)))
            thief.listen()

        proposal = owner.propose()
        with pytest.raises(RefusedError, match=r"rejected: .*bind"):
            apply(ports(owner.request().nginx, Watched(SystemClock(), "backup", steal)), proposal, OWNER)
    assert owner.files() == before
    assert owner.says() == (200, "A1\n")
    apply(ports(owner.request().nginx), owner.propose(), OWNER)
    assert owner.marked() == "000001-A"


def test_an_edit_by_somebody_else_meanwhile_is_not_overwritten(owner):
    conf = owner.folder / "nginx.conf"

    def edit():
        conf.write_text(conf.read_text() + "# mine\n")

    proposal = owner.propose()
    with pytest.raises(RefusedError, match="somebody else changed it"):
        apply(ports(owner.request().nginx, Watched(SystemClock(), "stage", edit)), proposal, OWNER)
    assert conf.read_text().endswith("# mine\n")
    assert not (owner.folder / "upswitch/live").is_symlink()
    owner.propose()


def test_undoing_stops_at_an_edit_by_somebody_else_and_reports_stuck(owner):
    conf = owner.folder / "nginx.conf"

    def edit():
        conf.write_text(conf.read_text() + "# mine\n")
        owner.nginx.end()

    with pytest.raises(StuckError, match="somebody else changed it"):
        apply(ports(owner.request().nginx, Watched(SystemClock(), "write nginx.conf", edit)), owner.propose(), OWNER)
    assert (owner.folder / "upswitch/live/marker.conf").is_file()  # what the edited file includes stays
    owner.start()
    assert owner.says() == (200, "A1\n")


@pytest.mark.parametrize(
    "name", ["stage", "first_link", "write upswitch.toml", "test_covered", "backup", "write nginx.conf", "reload"]
)
def test_after_a_kill_at_any_step_nginx_serves_the_same_pool_and_init_can_go_on(owner, name):
    host = Watched(SystemClock(), name)
    host.after = host.kill
    with suppress(Killed):
        apply(ports(owner.request().nginx, host), owner.propose(), OWNER)
    assert host.is_dead
    assert owner.says() == (200, "A1\n")
    assert owner.passes()
    owner.stop()
    owner.start()
    assert owner.says() == (200, "A1\n")
    if name in ("write nginx.conf", "reload"):
        assert owner.marked() == "000001-A"
    else:
        applied = apply(ports(owner.request().nginx), owner.propose(), OWNER)
        assert owner.marked() == applied.generation


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (lambda folder: (folder / "upswitch.toml").write_text("mine"), "overwrites no site file"),
        (lambda folder: (folder / "upswitch/live").mkdir(parents=True), "init did not make it"),
        (lambda folder: os.link(folder / "nginx.conf", folder / "twin"), "2 names"),
        (lambda folder: _append(folder / "upstreamA.conf", b"# \xff\n"), "not UTF-8"),
        (lambda folder: (folder / "upstreamA.conf").unlink(), "nginx -T"),
    ],
)
def test_an_obstacle_is_refused_before_anything_is_written(owner, prepare, says):
    prepare(owner.folder)
    before = owner.files()
    with pytest.raises(RefusedError, match=says):
        owner.propose()
    assert owner.files() == before


def test_a_marker_address_in_use_is_refused_with_the_option_that_changes_it(owner):
    with pytest.raises(RefusedError, match="another program listens") as refused:
        owner.propose(owner.request(marker=owner.servers[0].address))
    assert "--marker" in refused.value.refusals[0].hint


def test_a_folder_that_an_include_of_nginx_matches_is_refused(any_nginx, tmp_path):
    for owner in _owner(any_nginx, tmp_path, conf="sites/app"):
        conf = owner.folder / "nginx.conf"
        conf.write_text(conf.read_text().replace("include sites/app;", "include sites/*;"))
        with pytest.raises(RefusedError, match="would make nginx read"):
            owner.propose(owner.request(dir=f"{owner.folder}/sites/upswitch"))


def test_without_a_running_nginx_nothing_is_applied(owner):
    proposal = owner.propose()
    before = owner.files()
    owner.stop()
    with pytest.raises(RefusedError, match="not running"):
        apply(ports(owner.request().nginx), proposal, OWNER)
    assert owner.files() == before


def test_on_a_terminal_init_lists_the_upstreams_asks_and_makes_the_change(owner):
    with terminal(b"1\nA\n\ny\n") as (descriptor, seen):
        argv = ["init", "--no-log", "-c", str(owner.site_file), *owner.places]
        process = popen_upswitch(argv, stdin=descriptor, stdout=descriptor, stderr=descriptor)
        code = process.wait(60)
    said = seen.decode()
    assert "1. upstream tornado_servers at" in said
    assert f"its other pool may be {owner.folder}/upstreamB.conf" in said
    assert "Which one?" in said
    assert "Make this change now?" in said
    assert (code, owner.marked()) == (0, "000001-A"), said


def test_without_a_terminal_init_lists_the_upstreams_and_changes_nothing(owner):
    before = owner.files()
    answer = upswitch(owner, "init", *owner.places)
    (command,) = answer.json["commands"]
    assert command.startswith("upswitch init --upstream tornado_servers --pool A --nginx-conf ")
    assert parsed(command) == parsed(" ".join(["init", "--upstream tornado_servers --pool A", *owner.places]))
    assert {name: data for name, data in owner.files().items() if not name.startswith("told-")} == before
    (owner.folder / "nginx.conf").write_text("nonsense;")
    refused = upswitch(owner, "init", *owner.places).json
    assert refused["outcome"] == "REFUSED"
    assert f"-c {owner.folder}/nginx.conf -t` passes" in refused["hint"]
    (only,) = answer.json["upstreams"]
    assert only["passes"] == [f"{owner.folder}/nginx.conf:15"]


def parsed(command):
    return init.make_context("init", shlex.split(command.removeprefix("upswitch "))[1:]).params


def test_status_says_that_a_generator_took_the_include_out(owner):
    conf = owner.folder / "nginx.conf"
    mark = "# Generated by consul-template from nginx.ctmpl\n"
    conf.write_text(mark + conf.read_text())
    plain = conf.read_text()
    applied = owner.init("--apply")
    assert any("change its template" in note for note in applied.json["notes"]), applied
    assert upswitch(owner, "status").json["findings"] == []
    conf.write_text(plain)
    (finding,) = upswitch(owner, "status").json["findings"]
    assert finding.startswith(f"{conf} no longer includes the live generation")
    assert f'A program writes {conf} ("Generated by consul-template from nginx.ctmpl")' in finding


def test_status_says_that_a_script_put_an_address_into_the_pass_again(owner):
    owner.init("--apply")
    conf = owner.folder / "nginx.conf"
    conf.write_text(conf.read_text().replace("http://tornado_servers;", f"http://{owner.servers[1].address};"))
    (finding,) = upswitch(owner, "status").json["findings"]
    assert finding == (
        "no pass names upstream tornado_servers any more, so a switch changes nothing for clients: "
        f"{conf}:15 passes to {owner.servers[1].address}"
    )


def test_leave_puts_the_plain_blocks_back_and_init_can_take_nginx_again(owner):
    owner.init("--apply")
    assert upswitch(owner, "switch", "--to", "B", "--no-watch").exit == 0
    files = owner.files()
    shown = upswitch(owner, "leave")
    assert "+    upstream tornado_servers {" in shown.json["diff"]
    assert owner.files()["nginx.conf"] == files["nginx.conf"]
    left = upswitch(owner, "leave", "--apply")
    assert (left.exit, owner.says(), owner.marked()) == (0, (200, "B1\n"), ""), left
    assert not left.json["production"]["proved"]
    conf = (owner.folder / "nginx.conf").read_text()
    assert f"server {owner.servers[1].address} weight=100;" in conf
    assert "upswitch" not in conf
    assert owner.passes()
    owner.site_file.unlink()
    again = upswitch(owner, "init", "--no-log", "--upstream", "tornado_servers", "--pool", "A", *owner.places, "--apply")
    assert owner.marked() == again.json["generation"] == "000004-A", again


def test_a_pool_that_a_check_module_asks_serves_through_init_and_leave(check_nginx, tmp_path):
    for owner in _owner(check_nginx, tmp_path):
        owner.stop()
        block = owner.folder / "upstreamA.conf"
        block.write_text(block.read_text().replace(f"# {CHECK}", "check interval=200 rise=1 fall=3 timeout=200 type=tcp;"))
        owner.start()
        until(lambda owner=owner: owner.says()[0] == 200, what="nginx's own health check")
        applied = owner.init("--apply")
        assert (applied.exit, owner.says()) == (0, (200, "A1\n")), applied
        left = upswitch(owner, "leave", "--apply")
        assert (left.exit, owner.says()) == (0, (200, "A1\n")), left
        assert "type=tcp default_down=false;" in (owner.folder / "nginx.conf").read_text()
        assert left.json["notes"][0].startswith("the check of upstream tornado_servers gets default_down=false"), left


def test_leave_is_refused_where_a_log_format_uses_our_variables_and_undone_where_nginx_does_not_reload(owner):
    owner.init("--apply")
    conf = owner.folder / "nginx.conf"
    plain = conf.read_text()
    conf.write_text(plain.replace("    server {", '    log_format x "$upswitch_tornado_servers_generation";\n    server {'))
    refused = upswitch(owner, "leave", "--apply")
    assert refused.exit != 0
    assert f"nginx uses variables of upswitch at {conf}:15" in refused.json["said"], refused
    conf.write_text(plain)
    site = owner.site_file.read_text()
    owner.site_file.write_text(
        re.sub(r"(?m)^reload = .*$", 'reload = ["true"]', site)
        if "\nreload = " in site
        else site.replace("[nginx]\n", '[nginx]\nreload = ["true"]\n')
    )
    refused = upswitch(owner, "leave", "--apply")
    assert refused.exit != 0, refused
    assert conf.read_text() == plain
    assert owner.marked() == "000001-A"
