"""The log of our own: where its lines go in nginx's files, and that they come out again byte for byte."""

import pytest

from dumps import TEMP_PATHS, real_dump, version_text
from upswitch.init.own_log import with_own_log, without_own_log
from upswitch.init.places import spliced
from upswitch.logs import coverage
from upswitch.nginx import conf_logs
from upswitch.nginx.build import parse_build
from upswitch.nginx.dump import parse_dump
from upswitch.site.read import parse_site

SITE = """
[nginx]
dir = "FOLDER/upswitch"
[upstreams.app]
A = ["127.0.0.1:1"]
B = ["127.0.0.1:2"]
"""
MARKER = 'map "" $upswitch_generation { default "000001-A"; } server { listen unix:FOLDER/marker; access_log off; }'
LIVE = "include FOLDER/upswitch/live/*.conf;"
FULL = (
    "log_format full '$msec $status $request_time $remote_addr $upstream_addr "
    "$upstream_status $request_completion $upswitch_generation';"
)
PASS = "location / { proxy_pass http://app; }"
OURS = "access_log FOLDER/upswitch_requests upswitch_requests buffer=32k flush=500ms;"

CASES = {
    "the line of http": (
        {"nginx.conf": f"http {{\n    access_log FOLDER/a.log;\n    LIVE\n    server {{ {PASS} }}\n}}"},
        {"nginx.conf": f"http {{\n    access_log FOLDER/a.log;\n    FORMAT\n    OURS\n    LIVE\n    server {{ {PASS} }}\n}}"},
    ),
    "no line anywhere: nginx's default stays": (
        {"nginx.conf": f"http {{\n    LIVE\n    server {{ {PASS} }}\n}}"},
        {"nginx.conf": f"http {{\n    FORMAT\n    DEFAULT\n    OURS\n    LIVE\n    server {{ {PASS} }}\n}}"},
    ),
    "blocks of their own, one in a shared file that is read before the include": (
        {
            "nginx.conf": "http {\n    access_log FOLDER/a.log;\n    include FOLDER/site;\n    LIVE\n}",
            "site": f"server {{\n  include FOLDER/shared;\n  {PASS}\n"
            "  location /b { access_log FOLDER/b.log; proxy_pass http://app; }\n}",
            "shared": "access_log FOLDER/c.log;\naccess_log FOLDER/d.log;\n",
        },
        {
            "site": "FORMAT\nserver {\n  include FOLDER/shared;\n"
            f"  {PASS}\n  location /b {{ OURS\n access_log FOLDER/b.log; proxy_pass http://app; }}\n}}",
            "shared": "OURS\naccess_log FOLDER/c.log;\naccess_log FOLDER/d.log;\n",
        },
    ),
    "a block with everything, one that is off, and one that passes elsewhere": (
        {
            "nginx.conf": f"http {{\n{FULL}\nLIVE\nserver {{ access_log FOLDER/a.log full; {PASS}\n"
            "location /o { access_log off; proxy_pass http://app; }\n"
            "location /e { access_log FOLDER/e.log; proxy_pass http://127.0.0.1:9; } }\n}"
        },
        {},
    ),
}


class Nginx:
    """A configuration on disk, as nginx reads it."""

    def __init__(self, binary, folder, files):
        self.binary, self.folder = binary, folder
        self.build = parse_build(version_text(binary), prefix=str(folder))
        self.files = {name: self.text(text) for name, text in files.items()}
        self.files["upswitch/live/app.conf"] = "upstream app { server 127.0.0.1:1; }"
        self.files["upswitch/live/marker.conf"] = self.text(MARKER)
        (folder / "logs").mkdir()
        self.site = parse_site(self.text(SITE))
        self.read()

    def text(self, text):
        line = conf_logs.own_format_line("upswitch", self.build)
        default = f"access_log {self.build.http_log_path}; # nginx's default, which the next line would turn off"
        for word, written in (("FORMAT", line), ("DEFAULT", default), ("OURS", OURS), ("LIVE", LIVE)):
            text = text.replace(word, written)
        return text.replace("http {", f"events {{ }}\nhttp {{ {TEMP_PATHS}").replace("FOLDER", str(self.folder))

    def read(self):
        self.conf = parse_dump(real_dump(self.binary, self.folder, self.files))
        return self.conf

    def scopes(self):
        return conf_logs.log_scopes(self.conf, self.build, ["app"], live=self.site.nginx.live, prefix="upswitch")


@pytest.mark.parametrize("case", CASES)
def test_our_line_stands_beside_the_owners_wherever_these_lack_something_and_comes_out_again(nginx, tmp_path, case):
    files, wanted = CASES[case]
    if "default" in case and not parse_build(version_text(nginx), prefix=str(tmp_path)).http_log_path.startswith(str(tmp_path)):
        pytest.skip("this nginx writes its default log outside of the test's folder")
    found = Nginx(nginx, tmp_path, files)
    before = dict(found.files)
    log = with_own_log((), found.conf, found.build, found.site)
    edits = {edit.path.removeprefix(f"{tmp_path}/"): edit.new for edit in log.edits}
    assert edits == {name: found.text(text) for name, text in wanted.items()}
    assert log.path == (f"{tmp_path}/upswitch_requests" if wanted else "")
    for name, text in edits.items():  # nginx starts after each one
        found.files[name] = text
        found.read()
    assert all(scope[0].is_off or any(not [*coverage.gaps(each)] for each in scope) for scope in found.scopes())
    assert with_own_log((), found.conf, found.build, found.site).edits == ()
    changes = [*without_own_log(found.conf, "upswitch")]
    for name, text in found.files.items():
        found.files[name] = spliced(text, [each for each in changes if each.path == f"{tmp_path}/{name}"])
    assert found.files == before
