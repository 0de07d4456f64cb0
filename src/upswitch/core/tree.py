"""A folder of small files as one tar, the form in which generations travel to and from a host."""

import io
import tarfile
from collections.abc import Mapping


def pack(files: Mapping[str, bytes]) -> bytes:
    """A tar of `files` by path, each folder's manifest last (where it is, all are), mode 0640: they hold internal addresses."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in sorted(files.items(), key=_place):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            entry.mode = 0o640
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _place(file: tuple[str, bytes]) -> tuple[str, bool, str]:
    folder, _, name = file[0].rpartition("/")
    return folder, name == "manifest.json", name


def unpack(data: bytes) -> dict[str, bytes]:
    """Regular files of a tar, by name without its folders. ValueError for what is no tar."""
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is not None:
                    files[entry.name.rpartition("/")[2]] = content.read()
    except tarfile.TarError as exc:
        raise ValueError(f"not a tar: {exc}") from exc
    return files
