"""The journal on a host: one JSON line a record, each synced before the next act."""

from upswitch.core import run as runs
from upswitch.core.errors import HostError
from upswitch.core.site import Nginx
from upswitch.ports import Host

TOO_LONG = 4 << 20  # bytes; then the oldest runs are dropped
KEPT_RUNS = 200
RESERVE = 64 << 10  # bytes set aside on disk before a run, so that a disk that fills up later can't stop the way back


class Journal:
    """Reads whole, appends one record at a time. Written only under the lock."""

    def __init__(self, host: Host, path: str) -> None:
        self._host = host
        self._path = path

    def read(self) -> tuple[runs.Run, ...]:
        """Every run, oldest first. JournalCorruptError names the line."""
        chunk = self._host.read(self._path)
        return runs.replay(runs.decode(chunk.data)) if chunk else ()

    def write(self, record: runs.AnyRecord) -> None:
        """Durable when it returns; HostError where it could not be made so."""
        self._host.append(self._path, runs.encode(record))

    def prepare(self) -> None:
        """Before a run: cut off a torn last line and the oldest runs, and set blocks aside for the records to come."""
        chunk = self._host.read(self._path)
        data = chunk.data if chunk else b""
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) > TOO_LONG:
            whole = _latest(whole)
        if whole != data or chunk is None:
            self._host.write(self._path, whole, mode=0o600)
        # KEEP_SIZE leaves the file's length alone. A file system without it says so, and then nothing is reserved.
        self._host.run(("fallocate", "-n", "-o", str(len(whole)), "-l", str(RESERVE), self._path), deadline=5.0)

    def forget(self, name: str) -> str:
        """Move a journal that can't be read aside; the path it went to."""
        aside = f"{self._path}.{name}"
        moved = self._host.run(("mv", "-n", self._path, aside), deadline=5.0)
        if moved.exit != 0:
            raise HostError(f"move {self._path} aside", moved.err.decode("utf-8", "replace").strip())
        return aside


def journal_of(host: Host, nginx: Nginx) -> Journal:
    return Journal(host, f"{nginx.state}/journal.jsonl")


def _latest(data: bytes) -> bytes:
    records = runs.decode(data)
    starts = [index for index, record in enumerate(records) if isinstance(record, runs.Started)]
    first = starts[-KEPT_RUNS] if len(starts) > KEPT_RUNS else 0
    return b"".join(map(runs.encode, records[first:]))
