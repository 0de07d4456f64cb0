"""What `nginx -V` tells, from the two real binaries and from texts of builds that can't be had here."""

import glob
import os
import subprocess

import pytest

from upswitch.core.build import BuildError, parse_build

BINARIES = [
    path
    for path in (
        *os.environ.get("UPSWITCH_TEST_NGINX", "").split(":"),
        "/tmp/ngx/root/usr/sbin/nginx",
    )
    if os.path.exists(path)
]
TENGINE = """Tengine version: Tengine/3.1.0
nginx version: nginx/1.24.0
built by gcc 12.2.0 (Debian 12.2.0-14)
configure arguments: --prefix=/opt/tengine --add-module=./modules/ngx_http_upstream_check_module --with-http_stub_status_module
"""
