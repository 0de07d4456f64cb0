"""A growing log on the host, looked at whenever it is read."""

from upswitch.ports import Chunk, Host

_LIMIT = 1 << 21  # bytes


class PollingFollower:
    """A `ports.Follower` over `Host.read`: one round trip a look, two after a rotation."""

    def __init__(self, host: Host, path: str) -> None:
        self._host = host
        self._path = path
        self._half = b""
        now = host.read(path, limit=0)
        self._inode = now.inode if now else 0
        self._offset = now.size if now else 0

    def read(self) -> bytes:
        now = self._host.read(self._path, offset=self._offset, limit=_LIMIT)
        if now is None:
            return b""
        found = b""
        if now.inode != self._inode:
            found = self._rest_of(self._inode)
            now = self._from_start(now)
        elif now.size < self._offset:
            now = self._from_start(now)
        self._offset += len(now.data)
        return self._whole(found + now.data)

    def close(self) -> None:
        self._half = b""

    def _rest_of(self, inode: int) -> bytes:
        """What came to the old file after our last look, under the name that it was given."""
        old = self._host.read(f"{self._path}.1", offset=self._offset, limit=_LIMIT) if inode else None
        return old.data if old is not None and old.inode == inode else b""

    def _from_start(self, now: Chunk) -> Chunk:
        self._inode, self._offset = now.inode, 0
        return self._host.read(self._path, limit=_LIMIT) or now

    def _whole(self, data: bytes) -> bytes:
        data = self._half + data
        end = data.rfind(b"\n") + 1
        self._half = data[end:]
        return data[:end]
