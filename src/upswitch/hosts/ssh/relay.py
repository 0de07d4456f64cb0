"""Programs that a host has, used as a relay between a session's streams and a socket, where sshd does not forward."""

from upswitch.hosts.ssh.pipe import Pipe

CONNECTED = b"+"
_LONGEST_S = 120
_MISSING = ("failed to run command", "no relay here")

# $0: host, $1: port. bash alone opens /dev/tcp. It has no half close: the relay ends when the server closes, or we do.
_BASH = 'exec 4<&0; exec 3<>"/dev/tcp/$0/$1" || exit 1; printf +; { cat <&4 >&3; kill $$; } 2>/dev/null & exec cat <&3 4<&-'

_PERL = r"""
use Socket;
socket(S, PF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un($ARGV[0])) or die "perl: $!\n";
sub put { my ($to, $data) = @_; while (length $data) { my $n = syswrite($to, $data); exit unless $n; substr($data, 0, $n) = "" } }
put(*STDOUT, "+");
while (1) {
  my $r = ""; vec($r, 0, 1) = 1; vec($r, fileno(S), 1) = 1;
  select($r, undef, undef, undef);
  for ([*STDIN, 0, *S], [*S, fileno(S), *STDOUT]) {
    my ($from, $number, $to) = @$_;
    next unless vec($r, $number, 1);
    exit unless sysread($from, my $data, 65536);
    put($to, $data);
  }
}
"""

_PYTHON = r"""
import os, select, socket, sys
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
except OSError as exc:
    sys.exit("python3: " + exc.strerror)
os.write(1, b"+")
while True:
    for each in select.select([0, s], [], [])[0]:
        data = s.recv(65536) if each is s else os.read(0, 65536)
        if not data:
            sys.exit()
        while each is s and data:
            data = data[os.write(1, data):]
        s.sendall(data)
"""

_EITHER = (
    'command -v perl >/dev/null && exec perl -e "$1" -- "$0"; command -v python3 >/dev/null && exec python3 -c "$2" "$0";'
    " echo no relay here: neither perl nor python3 >&2"
)


def to_address(host: str, port: str) -> tuple[str, ...]:
    return (*_bounded(), "bash", "-c", _BASH, host, port)


def to_file(path: str) -> tuple[str, ...]:
    """A unix socket."""
    return (*_bounded(), "sh", "-c", _EITHER, path, _PERL, _PYTHON)


def last_words(pipe: Pipe) -> str:
    """What the relay said when it could not connect."""
    said = b""
    while more := pipe.receive_err(timeout=2.0):
        said += more
    return (said.strip().splitlines() or [b"the relay ended at once"])[-1].decode("ascii", "backslashreplace")


def is_missing(said: str) -> bool:
    return any(word in said for word in _MISSING)


def _bounded() -> tuple[str, ...]:
    """In the kernel's own words, and not for ever: nobody waits on the host for a connection that hangs."""
    return ("env", "LC_ALL=C", "timeout", "-s", "KILL", str(_LONGEST_S))
