"""The real clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """CLOCK_MONOTONIC for every deadline; wall time for people only."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, seconds))
