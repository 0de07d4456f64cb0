"""Rendering: the files of a generation, read back before anyone else reads them, and taken by real nginx."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.generations import limited
from upswitch.generations.generation import Rendering
from upswitch.generations.render import RenderError, render
from upswitch.site.model import Nginx, Pool, Server, Site, Upstream
from upswitch.site.read import parse_site
from upswitch.site.server_line import parse_server
from upswitch_lab.find import read_build
from upswitch_lab.process import free_port

TEMPLATES = {path.name: path.read_text() for path in (Path(__file__).parents[2] / "templates").glob("*.j2")}
RENDERING = Rendering(generation="000042-B", pool="B", min_timeout="", drain_flag="", stub_status=False)
SITE = """
[upstreams.app]
A = ["127.0.0.1:8001 weight=2", "unix:/run/app.sock backup"]
B = ["127.0.0.1:8002", "[::1]:8003 max_fails=0 fail_timeout=30s max_conns=5"]
directives = ["zone app 64k", "least_conn", "keepalive 32"]
"""
GOOD_SERVERS = "{% for server in servers %}server {{ server }};{% endfor %}"


def test_the_files_hold_the_pool_and_the_generation_and_nothing_else():
    app, marker = render(parse_site(SITE), RENDERING, TEMPLATES)
    assert app.name == "app.conf"
    assert app.text == (
        "# rendered by upswitch; do not edit; generation 000042-B\n"
        "upstream app {\n    zone app 64k;\n    least_conn;\n    keepalive 32;\n"
        "    server 127.0.0.1:8002;\n    server [::1]:8003 max_fails=0 fail_timeout=30s max_conns=5;\n}\n"
    )
    assert marker.name == "marker.conf"
    assert 'default "000042-B";' in marker.text
    assert not any(word in marker.text for word in ("drain", "stub_status", "keepalive_min_timeout"))


def test_the_same_values_give_the_same_bytes():
    assert render(parse_site(SITE), RENDERING, TEMPLATES) == render(parse_site(SITE), RENDERING, TEMPLATES)


def with_template(text, servers=("127.0.0.1:1", "127.0.0.1:2"), **how):
    pool = Pool(name="B", servers=tuple(parse_server(line) for line in servers))
    site = Site(
        nginx=Nginx(),
        upstreams=(Upstream(name="app", pools=(pool,), template="/etc/own.j2"),),
        gate=parse_site(SITE).gate,
        watch=parse_site(SITE).watch,
    )
    return render(site, RENDERING, {**TEMPLATES, "/etc/own.j2": text}, **how)[0].text


def test_a_template_of_the_owner_may_write_the_block_in_its_own_way():
    text = f'# own: "server" {{{{ pool }}}}\nupstream "{{{{ name }}}}" {{ hash "${{a}}" consistent; {GOOD_SERVERS} }}\n'.replace(
        "${a}", "$uri"
    )
    assert "server 127.0.0.1:1;" in with_template(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "upstream app { }",
        "upstream other { " + GOOD_SERVERS + " }",
        "upstream app { " + GOOD_SERVERS,
        "upstream app { " + GOOD_SERVERS + " } }",
        "upstream app { " + GOOD_SERVERS + " server 6.6.6.6; }",
        "upstream app { " + GOOD_SERVERS + ' "server" 6.6.6.6; }',
        "upstream app { " + GOOD_SERVERS + " include /etc/other.conf; }",
        "upstream app { " + GOOD_SERVERS + " } upstream b { server 6.6.6.6; }",
        "upstream app { " + GOOD_SERVERS + " } server { listen 80; }",
        "upstream app { " + GOOD_SERVERS + " } access_log /etc/x;",
        "access_log /etc/x; upstream app { " + GOOD_SERVERS + " }",
        "upstream app { location / { " + GOOD_SERVERS + " } }",
        "upstream app { " + GOOD_SERVERS + " } trailing",
        "upstream app { server {{ servers[0] }}; }",
        "upstream app { {% for s in servers|reverse %}server {{ s }};{% endfor %} }",
        "upstream app { {% for s in servers %}server {{ s }} down;{% endfor %} }",
        "upstream app { " + GOOD_SERVERS + "\x0b# } server { listen 80; \n}",
        "upstream app { " + GOOD_SERVERS + " hash ${a; server 6.6.6.6; }; }",
    ],
)
def test_a_template_that_gives_other_servers_is_refused(text):
    with pytest.raises(RenderError) as caught:
        with_template(text)
    assert caught.value.template == "/etc/own.j2"


@pytest.mark.parametrize(
    "fault",
    [
        "{{ missing }}",
        "{{ name.missing }}",
        "{{ missing.deeper }}",
        "{{ 1 // 0 }}",
        "{{ 'a' + 1 }}",
        "{{ servers[99] }}",
        "{{ 'x'|nofilter }}",
        "{{ name|round }}",
        "{% for %}",
        "{% include 'absent.j2' %}",
        "{{ servers.__class__ }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('touch pwned').read() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(name) }}",
        "{{ range(10 ** 9)|list }}",
        "{% set _ = [].append(1) %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_the_error_of_a_template_has_its_name_and_line(fault):
    with pytest.raises(RenderError, match=r"^/etc/own\.j2: line 2: ") as caught:
        with_template(f"# first line\n{fault}\nupstream app {{ {GOOD_SERVERS} }}\n")
    assert caught.value.template == "/etc/own.j2"


NESTED = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("bomb", "why", "seconds"),
    [
        ("{{ 'a' * 999999999 }}", "line 1: MemoryError", 60.0),
        ("{% set big = 'a' * 99999999 %}{{ big ~ big ~ big ~ big ~ big }}", "MemoryError", 60.0),
        ("{{ '%999999999d' % 1 }}", "MemoryError", 60.0),
        ("{{ 'a' * 9999999 }}", "bytes of text; 4194304 are allowed", 60.0),
        ("{{ name.missing }}", "line 1: UndefinedError", 60.0),
        (NESTED, "it has not ended after 1 s", 1.0),
        ("{{ 9 ** (9 ** 9) }}", "it has not ended after 1 s", 1.0),
    ],
)
def test_a_template_of_the_owner_that_would_not_end_or_fill_the_memory_is_an_error_with_its_name(bomb, why, seconds):
    run = partial(limited.rendered, seconds=seconds)
    with pytest.raises(RenderError, match=r"^/etc/own\.j2: ") as caught:
        with_template(f"{bomb}\nupstream app {{ {GOOD_SERVERS} }}\n", run=run)
    assert why in str(caught.value)


def test_a_template_of_the_owner_gives_the_same_text_with_limits_as_without():
    text = f"# {{{{ servers }}}}, of {{{{ directives }}}}\nupstream {{{{ name }}}} {{ {GOOD_SERVERS} }}\n"
    assert with_template(text, run=limited.rendered) == with_template(text)


def test_the_error_about_a_missing_template_has_its_name():
    with pytest.raises(RenderError, match="upstream"):
        render(parse_site(SITE), RENDERING, {})


@pytest.mark.parametrize("field", ["generation", "min_timeout", "drain_flag"])
def test_the_name_of_a_generation_cannot_break_out_of_its_line(field):
    values = {name: getattr(RENDERING, name) for name in RENDERING.__struct_fields__}
    with pytest.raises(RenderError):
        render(parse_site(SITE), Rendering(**{**values, field: '1"; } server { listen 80; #'}), TEMPLATES)


@given(
    st.one_of(
        st.text(),
        st.text("127.0.0.1:8[]unix:/=weightdown ;{}#\\\"'$\n", max_size=40),
        st.from_regex(r"\A[a-z0-9.-]{1,12}(:[0-9]{1,5})?( (weight=[0-9]|down|backup)){0,2}\Z"),
    )
)
def test_any_string_is_refused_or_comes_back_as_the_words_of_one_server_line(line):
    try:
        server = parse_server(line)
    except ValueError:
        return
    text = with_template(TEMPLATES["upstream.conf.j2"], servers=[line])
    assert f"upstream app {{\n    server {' '.join(line.split())};\n}}\n" in text
    assert server.text == " ".join(line.split())


@pytest.mark.parametrize(
    "address", ["1:80; include /etc/passwd", "1; } server { listen 80; } upstream x { server 1", "{{ 7 * 7 }}", "1 #"]
)
def test_a_bad_value_that_the_parser_missed_is_found_when_the_result_is_read_back(address):
    pool = Pool(name="B", servers=(Server(address=address),))
    clean = parse_site(SITE)
    site = Site(nginx=clean.nginx, upstreams=(Upstream(name="app", pools=(pool,)),), gate=clean.gate, watch=clean.watch)
    try:
        app = render(site, RENDERING, TEMPLATES)[0]
    except RenderError:
        return
    assert "server {{ 7 * 7 }};" in app.text  # shown as text, never run as a template


def wait_for(condition):
    deadline = monotonic() + 10
    while not condition():
        assert monotonic() < deadline, "the condition did not come in 10 s"


def ask(port, path):
    """One whole answer on a connection that the client would keep."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as one:
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += one.recv(65536) or b"\r\n\r\n(cut)"
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += one.recv(65536)
    return head.decode(), body.decode()


def answers(port):
    try:
        return ask(port, "/")
    except OSError:
        return None


@contextmanager
def started(nginx, folder, conf):
    """nginx in the foreground of a private folder, ended by its own id."""
    argv = [nginx, "-p", folder, "-c", conf, "-e", f"{folder}/error.log", "-g", "daemon off;"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def folder(tmp_path):
    """A folder that nginx's worker user can enter: a drain flag it cannot see does nothing."""
    path = Path("/tmp") / f"upswitch-render-{os.getpid()}-{tmp_path.name}"
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(path)


def lay_down(folder, nginx):
    """A private configuration around the rendered files; its path, the public port and the marker's."""
    public, marker, app = (free_port("127.0.0.1") for _ in range(3))
    build = read_build(nginx)
    site = parse_site(
        f'[nginx]\nmarker = "127.0.0.1:{marker}"\ndrain_flag = "{folder}/drain"\n'
        f'[upstreams.app]\nB = ["127.0.0.1:{app}", "unix:{folder}/none.sock backup max_fails=0 fail_timeout=1m"]\n'
        'directives = ["zone app 64k", "least_conn", "keepalive 32"]\n',
    )
    rendering = Rendering(
        generation="000042-B",
        pool="B",
        min_timeout="5s" if build.has_min_timeout else "",
        drain_flag=f"{folder}/drain",
        stub_status=build.has_stub_status,
    )
    for file in render(site, rendering, TEMPLATES):
        (folder / file.name).write_text(file.text)
    temps = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\nevents {{ }}\n"
        f"http {{ {temps} access_log off;\ninclude {folder}/app.conf; include {folder}/marker.conf;\n"
        f'server {{ listen 127.0.0.1:{app}; location / {{ return 200 "app"; }} }}\n'
        f"server {{ listen 127.0.0.1:{public};\n"
        "location / { proxy_pass http://app; } } }\n",
    )
    return folder / "nginx.conf", public, marker


def test_nginx_takes_the_files_and_answers_with_its_generation_and_says_when_the_flag_is_up(nginx, folder):
    conf, public, marker = lay_down(folder, nginx)
    tested = subprocess.run([nginx, "-t", "-p", folder, "-c", conf, "-e", "stderr"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
    with started(nginx, folder, conf):
        wait_for(lambda: answers(marker))
        generation, pid = ask(marker, "/")[1].split()
        assert generation == "000042-B"
        assert int(pid) > 0
        assert ask(marker, "/drain")[1] == "serving\n"
        assert ask(marker, "/else")[0].startswith("HTTP/1.1 404")
        (folder / "drain").touch()
        assert ask(marker, "/drain")[1] == "draining\n"
        head, body = ask(public, "/x")
        assert (head.split("\r\n")[0], body) == ("HTTP/1.1 200 OK", "app")


@pytest.mark.parametrize(
    ("parameter", "is_taken"),
    [("fail_timeout=10s", True), ("fail_timeout=1m", True), ("fail_timeout=500ms", False), ("weight=0", False)],
)
def test_a_server_parameter_is_taken_here_as_nginx_takes_it(nginx, folder, parameter, is_taken):
    conf = folder / "nginx.conf"
    conf.write_text(f"pid {folder}/pid; events {{ }} http {{ upstream a {{ server 127.0.0.1:1 {parameter}; }} }}\n")
    tested = subprocess.run([nginx, "-t", "-p", folder, "-c", conf, "-e", "stderr"], capture_output=True, check=False)
    assert (tested.returncode == 0) is is_taken
    try:
        parse_server(f"127.0.0.1:1 {parameter}")
    except ValueError:
        assert not is_taken
    else:
        assert is_taken
