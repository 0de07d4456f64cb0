"""Dumps for tests: from a real nginx, and the same text made by hand for what no nginx here can read (the check module)."""

import subprocess

TEMP_PATHS = " ".join(f"{kind}_temp_path temp/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
"""Debian's build would make its own under /var/lib."""


def real_dump(nginx, folder, files):
    """Write the files under `folder` and have nginx read nginx.conf there: what `nginx -T` says."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())
    (folder / "temp").mkdir(exist_ok=True)
    argv = (nginx, "-T", "-q", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr")
    ran = subprocess.run(argv, capture_output=True, check=False, timeout=20)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


def made_dump(files):
    """`files` by full path, the main one first."""
    return "".join(f"# configuration file {path}:\n{text}\n" for path, text in files.items())


def version_text(nginx):
    return subprocess.run((nginx, "-V"), capture_output=True, text=True, check=True, timeout=20).stderr
