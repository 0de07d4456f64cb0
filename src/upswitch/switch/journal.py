"""The journal on a host: one JSON line a record, each synced before the next act."""

from upswitch.basics.errors import HostError
from upswitch.hosts import sh
from upswitch.hosts.host import Host
from upswitch.site.model import Nginx
from upswitch.switch import run as runs

TOO_LONG = 4 << 20  # bytes; then the oldest runs are dropped
KEPT_RUNS = 200
RESERVE = 64 << 10  # bytes reserved on disk before a run, so that a disk that fills up later can't stop a rollback
_OPEN = 20.0  # seconds


class Journal:
    """Read as a whole, appended to, and written only under the lock.

    A record that could not be written goes before the next one, so that a journal that can be written again has no gap.
    """

    def __init__(self, host: Host, path: str) -> None:
        self._host = host
        self._path = path
        self._data: bytes | None = None  # all of it, until we write
        self._waiting = b""  # records that are not on disk
        self._ahead = b""  # records that travel with the next command

    def read(self) -> tuple[runs.Run, ...]:
        """Every run, oldest first. JournalCorruptError names the line."""
        chunk = self._host.read(self._path)
        return runs.replay(runs.decode(chunk.data)) if chunk else ()

    def open(self) -> tuple[runs.Run, ...]:
        """The same under the lock, before writing: room for the records to come is reserved with it."""
        self._open(is_made=False)
        return self.opened

    @property
    def opened(self) -> tuple[runs.Run, ...]:
        """Every run as it was when the journal was opened; read again where we have written since."""
        return self.open() if self._data is None else runs.replay(runs.decode(self._data))

    def note(self, record: runs.AnyRecord) -> None:
        """Write the record together with the next one. A crash before that is as if it came before the record was known."""
        self._waiting += runs.encode(record)

    def write(self, record: runs.AnyRecord | None = None, *, is_ahead: bool = False) -> None:
        """This record, after those that wait. Durable when it returns; HostError where it could not be made so.

        Ahead: before the next command on the host begins; that command says so where it could not be done (`Host.append`).
        """
        if record is not None:
            self.note(record)
        self._data = None
        self._host.append(self._path, self._waiting, is_ahead=is_ahead)
        self._ahead = self._waiting if is_ahead else b""
        self._waiting = b""

    def send(self) -> None:
        """Write what should have gone ahead, where no command has come since. HostError where it could not be made durable."""
        self._host.append(self._path, b"")

    def was_refused(self) -> None:
        """What went ahead was not written: keep it for the next record."""
        self._waiting, self._ahead = self._ahead + self._waiting, b""

    def prepare(self) -> None:
        """Before a run: cut off a torn last line and the oldest runs, and have blocks set aside for the records to come."""
        data = self._data
        if not data:
            data = self._open(is_made=True)
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) > TOO_LONG:
            whole = _latest(whole)
        if whole != data:
            self._host.write(self._path, whole, mode=0o600)
            self._open(is_made=True)

    def _open(self, *, is_made: bool) -> bytes:
        ran = self._host.run(sh.open_journal(self._path, reserve=RESERVE, is_made=is_made), deadline=_OPEN)
        if ran.exit not in {0, sh.Exit.NOT_THERE} or (is_made and ran.exit):
            raise HostError(f"read {self._path}", ran.words, why=ran.why)
        self._data = ran.out
        return ran.out

    def forget(self, name: str) -> str:
        """Move a journal that can't be read aside; the path it went to."""
        aside = f"{self._path}.{name}"
        moved = self._host.run(("mv", "-n", self._path, aside), deadline=5.0)
        if moved.exit != 0:
            raise HostError(f"move {self._path} aside", moved.words, why=moved.why)
        return aside


def journal_of(host: Host, nginx: Nginx) -> Journal:
    return Journal(host, f"{nginx.state}/journal.jsonl")


def _latest(data: bytes) -> bytes:
    records = runs.decode(data)
    starts = [index for index, record in enumerate(records) if isinstance(record, runs.Started)]
    first = starts[-KEPT_RUNS] if len(starts) > KEPT_RUNS else 0
    return b"".join(map(runs.encode, records[first:]))
