"""The real command line, as a process of its own."""

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Protocol

from forked import popen_upswitch
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

DEADLINE = 60.0


class Answer:
    """An ended command: its exit code, its one JSON object, and what it told on stderr."""

    def __init__(self, exit_code: int, out: str, err: str) -> None:
        self.exit = exit_code
        self.err = err
        self.out = out

    @property
    def json(self) -> dict:
        return json.loads(self.out)

    @property
    def details(self) -> str:
        """The further lines of what happened."""
        return "\n".join(self.json["details"])

    def __repr__(self) -> str:
        return f"exit {self.exit}\n{self.out}\n{self.err}"


class HasSite(Protocol):
    """What a command needs to know of a laboratory, of one host or of several."""

    @property
    def folder(self) -> Path: ...
    @property
    def site_file(self) -> Path: ...


class Command:
    """A command under way. Its stderr is in a file, so that a test can wait for a line of it."""

    _under_way: ClassVar[set["Command"]] = set()

    def __init__(self, lab: HasSite, *words: str, env: Mapping[str, str] | None = None) -> None:
        self._told = lab.folder / f"told-{len(list(lab.folder.glob('told-*')))}"
        with self._told.open("wb") as told:
            self.process = popen_upswitch(
                [*words, "-c", str(lab.site_file), "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                start_new_session=True,
                env=env,
            )
        self._under_way.add(self)

    @classmethod
    def kill_left(cls) -> None:
        """What a test that failed left under way; of one that passed nothing is."""
        while cls._under_way:
            with cls._under_way.pop().process as process:
                process.kill()

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.told() or self.process.poll() is not None, deadline=DEADLINE, what=f"{text!r} in {self.told()}")
        assert text in self.told(), self.told()

    def told(self) -> str:
        return self._told.read_text()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> Answer:
        out, _ = self.process.communicate(timeout=2 * DEADLINE)
        self._under_way.discard(self)
        return Answer(self.process.returncode, out, self.told())


def upswitch(lab: Lab, *words: str) -> Answer:
    return Command(lab, *words).end()


def running(lab: Lab) -> str:
    """The generation that nginx itself answers with."""
    return lab.marker()


def on_disk(lab: Lab) -> str:
    return Path(os.readlink(lab.folder / "upswitch" / "live")).name


def served_by(lab: Lab) -> set[str]:
    """The servers that answer clients now."""
    return {lab.get("/")[1].strip() for _ in range(8)}


def agree(lab: Lab, answer: Answer, pool: str) -> None:
    """What the tool says equals what nginx serves and what the disk holds."""
    production = answer.json["production"]
    assert production["proved"], answer
    assert production["running"] == running(lab) == on_disk(lab)
    assert production["pool"] == pool
    assert {server[0] for server in served_by(lab)} == {pool}
