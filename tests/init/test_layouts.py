"""`init` on layouts that people have: each file of layouts/ is one, written small from public configurations.

A file begins with what is asked and expected, a line each. Its files follow, each after `=== NAME`;
`=== NAME -> TARGET` is a symlink.
`@0@` to `@9@` are ports.

    init: the options            pools: UPSTREAM POOL = SERVERS ...       changes: the files that change, that of the include first
    found: UPSTREAM POOL OTHERS ..., as `init` lists it without options
    says: a note or a refusal    refused: why                             apply: it is done for real, with a server at @0@
"""

import os
import re
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from dumps import TEMP_PATHS, real_dump
from here import OWNER, TEMPLATES, ports
from upswitch.basics.errors import RefusedError
from upswitch.cli.commands.init import init
from upswitch.init import found
from upswitch.init.adopt import InitRequest, Proposal
from upswitch.init.apply import apply
from upswitch.init.propose import propose
from upswitch.nginx.configuration import PASSES, http_children, passed_upstreams, upstream_blocks
from upswitch.nginx.dump import NginxConf, parse_dump, walk
from upswitch.site.model import Nginx
from upswitch.site.read import parse_site
from upswitch_lab.lab import Server
from upswitch_lab.process import Process, ask, free_port, is_listening, until

LAYOUTS = sorted((Path(__file__).parent / "layouts").glob("*.conf"))


class Layout:
    """One file of layouts/, written out under a folder."""

    def __init__(self, path: Path, folder: Path, binary: str, ports: list[int]) -> None:
        text = path.read_text()
        for number, port in enumerate(ports):
            text = text.replace(f"@{number}@", str(port))
        head, *parts = text.replace("@dir@", str(folder)).split("\n=== ")
        lines = [line for line in head.splitlines() if line and not line.startswith("#")]
        self.wanted = [tuple(map(str.strip, line.split(":", 1))) for line in lines]
        self.folder, self.ports = folder, ports
        self.files: dict[str, str] = {}
        for part in parts:
            name, _, content = part.partition("\n")
            name, arrow, target = name.partition(" -> ")
            if arrow:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(target)
            else:
                self.files[name] = content + "\n"
        self._complete()
        self.nginx = replace(
            Nginx(),
            binary=binary,
            prefix=str(folder),
            conf=f"{folder}/nginx.conf",
            dir=f"{folder}/upswitch",
            state=f"{folder}/state",
            marker=f"127.0.84.2:{ports[-1]}",
            reload=(binary, "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log", "-s", "reload"),
        )

    def _complete(self) -> None:
        """What every configuration needs here and no layout is about."""
        main = self.files.setdefault("nginx.conf", "http {\n    include conf.d/*.conf;\n    include sites-enabled/*;\n}")
        top = f"pid {self.folder}/nginx.pid; error_log {self.folder}/error.log; events {{ }}\n"
        user = "user root;\n" if os.geteuid() == 0 else ""
        self.files["nginx.conf"] = user + top + main.replace("http {", f"http {{ access_log off; {TEMP_PATHS}", 1)
        (self.folder / "temp").mkdir()
        for name, text in self.files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)

    def of(self, key: str) -> list[str]:
        return [value for name, value in self.wanted if name == key]

    def dump(self) -> NginxConf:
        return parse_dump(real_dump(self.nginx.binary, self.folder, {}))

    def propose(self) -> Proposal:
        (words,) = self.of("init")
        given = init.make_context("init", shlex.split(words)).params
        source = str(self.folder / given["source"]) if given["source"] else ""
        others = tuple(map(self._with_path, given["others"]))
        request = InitRequest(
            from_path=source,
            pool=given["pool"],
            nginx=self.nginx,
            out=f"{self.folder}/upswitch.toml",
            name=given["name"],
            upstreams=given["upstreams"],
            others=others,
        )
        return propose(ports(self.nginx), request, TEMPLATES)

    def _with_path(self, other: str) -> str:
        name, equals, value = other.rpartition("=")
        return f"{name}{equals}{self.folder}/{value}" if (self.folder / value).is_file() else other


def reached(conf: NginxConf) -> list[tuple[str, list[str]]]:
    """For each pass of the configuration, what it may reach."""
    servers = {each.args[0].lower(): sorted(each.text for each in each.children("server")) for each in upstream_blocks(conf)}
    passes = [each for each in walk(http_children(conf, "server")) if each.name in PASSES]
    return [_reached(conf, each, servers) for each in passes if not each.file.endswith("marker.conf")]


def _reached(conf, directive, servers):
    found = [servers.get(name.lower(), [f"server {name};"]) for name in passed_upstreams(conf, directive)]
    return directive.name, sorted({re.sub("unix:/+", "unix:/", line) for lines in found for line in lines})


def write(proposal: Proposal, nginx: Nginx) -> None:
    generation = Path(nginx.dir) / "generations" / proposal.generation
    generation.mkdir(parents=True)
    for name, data in proposal.files.items():
        (generation / name).write_bytes(data)
    Path(nginx.live).symlink_to(f"generations/{proposal.generation}")


def pools(proposal: Proposal) -> set[str]:
    site = parse_site(proposal.site_text)
    return {
        f"{each.name} {pool.name} = {', '.join(s.text for s in pool.servers)}" for each in site.upstreams for pool in each.pools
    }


@pytest.fixture(params=LAYOUTS, ids=lambda path: path.stem)
def layout(request, any_nginx, tmp_path) -> Iterator[Layout]:
    return Layout(request.param, tmp_path, any_nginx, [*range(29300, 29309), free_port("127.0.0.1")])


def test_a_layout_is_adopted_without_a_change_for_clients_or_refused_with_its_place(layout):
    before = layout.dump()
    if refused := layout.of("refused"):
        with pytest.raises(RefusedError) as caught:
            layout.propose()
        said = " ".join(each.what for each in caught.value.refusals)
        assert [each for each in refused if each not in said] == [], said
        return
    proposal = layout.propose()
    assert pools(proposal) == set(layout.of("pools"))
    assert [os.path.relpath(edit.path, layout.folder) for edit in proposal.edits] == layout.of("changes")[0].split()
    said = "\n".join((*proposal.notes, proposal.site_text))
    assert [each for each in layout.of("says") if each not in said] == [], said
    write(proposal, layout.nginx)
    for edit in proposal.edits:  # nginx starts after each one
        Path(edit.path).unlink()
        Path(edit.path).write_text(edit.new)
        after = layout.dump()
    assert reached(after) == reached(before)


@pytest.mark.parametrize(
    "layout", [path for path in LAYOUTS if "\nfound: " in path.read_text()], ids=lambda path: path.stem, indirect=True
)
def test_without_options_the_upstreams_are_listed_with_who_passes_to_them_and_their_other_pool(layout):
    layout.dump()
    seen = found.look(ports(layout.nginx).host, layout.nginx)
    lines = [
        " ".join((each.name, each.pool or "-", *(other.removeprefix(f"{layout.folder}/") for other in each.others)))
        for each in seen
    ]
    assert [each for each in layout.of("found") if each not in lines] == []
    assert all(each.passes for each in seen if each.name in [line.split()[0] for line in layout.of("found")])


@pytest.fixture(params=[path for path in LAYOUTS if "\napply: " in path.read_text()], ids=lambda path: path.stem)
def served(request, any_nginx, tmp_path) -> Iterator[Layout]:
    for parent in (tmp_path, *tmp_path.parents[:2]):
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & stat.S_ISVTX:
            parent.chmod(0o755)
    layout = Layout(request.param, tmp_path, any_nginx, [free_port("127.0.0.1") for _ in range(10)])
    server = Server("A1", layout.ports[0], tmp_path / "A1.out")
    server.await_listening()
    argv = (any_nginx, "-p", str(tmp_path), "-c", f"{tmp_path}/nginx.conf", "-e", f"{tmp_path}/error.log", "-g", "daemon off;")
    with (tmp_path / "out").open("ab") as out:
        nginx = Process(argv, out=out)
    try:
        until(lambda: is_listening(f"127.0.0.1:{layout.ports[8]}") or not nginx.is_alive, what="nginx")
        yield layout
    finally:
        nginx.end()
        server.end()


def test_a_layout_is_adopted_for_real_and_clients_get_the_same_server(served):
    files = {path: path.read_bytes() for path in served.folder.rglob("*") if path.is_file()}
    proposal = served.propose()
    applied = apply(ports(served.nginx), proposal, OWNER)
    assert ask(served.nginx.marker, "/")[1].startswith(applied.generation)
    assert ask(f"127.0.0.1:{served.ports[8]}", "/") == (200, "A1\n")
    assert [Path(backup).read_bytes() for backup in applied.backups] == [edit.old.encode() for edit in proposal.edits]
    edited = {os.path.realpath(edit.path) for edit in proposal.edits}
    logs = (".log", ".out", ".pid", "out")
    assert [
        path
        for path, data in files.items()
        if path.read_bytes() != data and os.path.realpath(path) not in edited and not path.name.endswith(logs)
    ] == []
