"""What `nginx -V` tells: from the real binaries, and from texts of builds that can't be had here."""

import os
import subprocess

import pytest
from msgspec.structs import replace

from dumps import version_text
from upswitch.nginx.build import BuildError, parse_build

DEBIAN = """nginx version: nginx/1.22.1
built with OpenSSL 3.0.20 7 Apr 2026
TLS SNI support enabled
configure arguments: --with-cc-opt='-g -O2 -fPIC' --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf \
--http-log-path=/var/log/nginx/access.log --error-log-path=stderr --pid-path=/run/nginx.pid --with-http_stub_status_module
"""
TENGINE = """Tengine version: Tengine/3.1.0
nginx version: nginx/1.24.0
built by gcc 12.2.0 (Debian 12.2.0-14)
configure arguments: --prefix=/opt/tengine --add-module=./modules/ngx_http_upstream_check_module
"""


def plain(version):
    return parse_build(f"nginx version: nginx/{version}\nconfigure arguments:\n")


def test_the_version_and_the_arguments_of_a_real_binary_are_read(nginx):
    said = subprocess.run((nginx, "-v"), capture_output=True, text=True, check=True, timeout=20).stderr
    build = parse_build(version_text(nginx))
    assert said.strip().endswith(".".join(map(str, build.version)))
    assert build.arguments
    assert build.takes_error_log_flag


def test_a_real_binary_reads_the_conf_path_that_we_compute_for_its_prefix(nginx, tmp_path):
    build = parse_build(version_text(nginx), prefix=str(tmp_path))
    if os.path.isabs(parse_build(version_text(nginx)).conf_path):
        assert build.conf_path == parse_build(version_text(nginx)).conf_path
        return  # Debian's: not ours to read
    temp = "client_body_temp_path t1; proxy_temp_path t2;"
    (tmp_path / os.path.basename(build.conf_path)).write_text(f"events {{}} http {{ {temp} }}\n")
    argv = (nginx, "-T", "-p", str(tmp_path))
    ran = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20, cwd=tmp_path)
    marker = next(line for line in ran.stdout.splitlines() if line.startswith("# configuration file "))
    assert os.path.normpath(marker.removeprefix("# configuration file ").removesuffix(":")) == build.conf_path
    assert os.path.exists(build.pid_path)  # `nginx -T` leaves an empty pid file


def test_debians_arguments_keep_a_quoted_one_whole_and_give_the_compiled_paths():
    build = parse_build(DEBIAN)
    assert build.arguments[0] == "--with-cc-opt=-g -O2 -fPIC"
    assert build.has_stub_status
    assert (build.prefix, build.conf_path, build.pid_path) == ("/usr/share/nginx", "/etc/nginx/nginx.conf", "/run/nginx.pid")
    assert (build.http_log_path, build.error_log_path, build.user) == ("/var/log/nginx/access.log", "stderr", "nobody")


def test_tengine_has_nginxs_version():
    build = parse_build(TENGINE)
    assert (build.name, build.version) == ("Tengine", (1, 24, 0))


def test_openresty_has_the_version_of_the_nginx_in_it():
    assert parse_build("nginx version: openresty/1.21.4.1\n").version == (1, 21, 4)


def test_the_unset_defaults_move_with_the_prefix_and_given_ones_do_not():
    unset = plain("1.26.0")
    assert (unset.pid_path, replace(unset, prefix_option="/srv").pid_path) == (
        "/usr/local/nginx/logs/nginx.pid",
        "/srv/logs/nginx.pid",
    )
    given = parse_build("nginx version: nginx/1.26.0\nconfigure arguments: --prefix=/opt/n --pid-path=run/n.pid\n")
    assert (given.pid_path, replace(given, prefix_option="/srv").pid_path) == ("/opt/n/run/n.pid", "/opt/n/run/n.pid")


@pytest.mark.parametrize(
    ("version", "truncates", "flag", "min_timeout"),
    [
        ("1.17.4", False, False, False),
        ("1.17.5", True, False, False),
        ("1.19.5", True, True, False),
        ("1.23.0", True, True, False),
        ("1.23.1", False, True, False),
        ("1.27.3", False, True, False),
        ("1.27.4", False, True, True),
    ],
)
def test_each_trait_begins_and_ends_with_its_version(version, truncates, flag, min_timeout):
    build = plain(version)
    assert (build.truncates_on_reload, build.takes_error_log_flag) == (truncates, flag)
    assert (build.has_min_timeout, build.needs_drain_flag) == (min_timeout, not min_timeout)


@pytest.mark.parametrize("text", ["", "sh: nginx: not found", "nginx version: nginx"])
def test_a_text_without_a_version_is_an_error(text):
    with pytest.raises(BuildError):
        parse_build(text)


def test_an_unbalanced_quote_in_the_arguments_does_not_stop_the_reading():
    build = parse_build("nginx version: nginx/1.26.0\nconfigure arguments: --with-cc-opt='-O2 --with-debug\n")
    assert "--with-debug" in build.arguments
