"""Packs the manual pages into the wheel: they are made from the commands themselves (src/upswitch/cli/man.py)."""

import os
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface):  # type: ignore[type-arg]
    """`share/man/man1` of the wheel. pip and pipx put it where `man` looks."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "standard":
            return  # an editable install: its commands may change
        sys.path.insert(0, os.path.join(self.root, "src"))
        from upswitch.cli.man import pages  # noqa: PLC0415  (only a build has our requirements)

        self._folder = tempfile.TemporaryDirectory()
        for name, text in pages().items():
            path = os.path.join(self._folder.name, name)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            build_data["shared_data"][path] = f"share/man/man1/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        del build_data, artifact_path
        if version == "standard":
            self._folder.cleanup()
