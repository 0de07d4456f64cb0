"""What commands print on stdout: one value each, as text and as JSON (docs/json.md)."""

from typing import Protocol

import msgspec

from upswitch.basics.value import Value


def to_json(view: object) -> str:
    return msgspec.json.encode(view).decode()


class View(Protocol):
    """What every command ends in: an exit code, and its text for people."""

    @property
    def exit(self) -> int: ...

    @property
    def text(self) -> str: ...


class Production(Value):
    """What serves, read when the command ended. `proved`: nginx's answer and the disk agree, and nothing is in the way."""

    pool: str
    running: str
    disk: str
    proved: bool
    text: str


class StepLine(Value):
    step: str
    result: str
    said: str
    seconds: float


class ServerLine(Value):
    """One server at the gate."""

    upstream: str
    server: str
    up: bool
    ok: int
    failed: int
    error: str
    text: str


class GateLine(Value):
    verdict: str
    seconds: float
    way_back: bool
    new: tuple[ServerLine, ...]
    old: tuple[ServerLine, ...]


class SettingLine(Value):
    """A directive behind a cause. `place` is FILE:LINE, "" where `value` is nginx's default."""

    name: str
    value: str
    place: str
    text: str


class CauseLine(Value):
    """One cause that was found. `status` is what clients got, null where no access line is written, 0 for 000 and 9 for 009.

    `clients`: how many of `count` clients noticed.
    """

    code: str
    count: int
    clients: int
    status: int | None
    servers: tuple[str, ...]
    first: str
    last: str
    evidence: str
    why: str
    check: str
    fix: str
    consequence_of: str
    note: str
    settings: tuple[SettingLine, ...]


class WatchLine(Value):
    """How the watch ended; `answers` are the rule's four, `findings` what the logs of those seconds tell."""

    verdict: str
    said: str
    seconds: int
    failed: int
    total: int
    mode: str
    answers: dict[str, bool]
    before: dict[str, int]
    peers_down: tuple[str, ...]
    reasons: str
    findings: tuple[CauseLine, ...]
    notes: tuple[str, ...]


class Acted(Value):
    """`switch`, `rollback`, `repair`; and any command that was refused."""

    command: str
    outcome: str
    exit: int
    said: str
    production: Production | None
    hint: str
    run: str = ""
    pool: str = ""
    former_pool: str = ""
    generation: str = ""
    steps: tuple[StepLine, ...] = ()
    gate: GateLine | None = None
    watch: WatchLine | None = None
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What and where; what production is in now; what to do next."""
        lines = [*self.said.split(" | "), *self.problems]
        if self.watch is not None:
            is_told = self.watch.said in self.said
            lines += [] if is_told else [f"Watch: {self.watch.said}"]
            lines += [f"Watch: {note}" for note in self.watch.notes]
        if self.production is not None:
            lines.append(f"Production: {self.production.text}")
        lines.append(f"Next: {self.hint}")
        return "\n  ".join(lines)


class WarmLine(Value):
    """What nginx's own check has yet to prove; `generation` is the one that one further reload makes live for that, "" for none."""

    generation: str
    why: str
    longest_s: float
    down: tuple[str, ...]

    @property
    def text(self) -> str:
        if not self.down and not self.generation:
            return "nginx's own check has proved every new server as a standby already"
        first = (
            f"first one reload with the new servers as a standby, generation {self.generation} ({self.why}); " if self.why else ""
        )
        return f"{first}it waits until nginx's own check calls them up, at most {self.longest_s:g} s"


class PlanView(Value):
    """`plan`: nothing was changed. `plain_blackout_s` has likely and worst, of a reload without upswitch."""

    command: str
    exit: int
    pool: str
    former_pool: str
    generation: str
    way_back: str
    unchanged: bool
    steps: tuple[str, ...]
    blackout_s: float
    plain_blackout_s: dict[str, float]
    warm: WarmLine | None
    notes: tuple[str, ...]
    gate: GateLine
    diff: str
    production: Production

    @property
    def text(self) -> str:
        if self.unchanged:
            return f"UNCHANGED: {self.pool} is live already, with the same servers\nProduction: {self.production.text}"
        servers = [f"  {server.text}" for server in (*self.gate.new, *self.gate.old)]
        return "\n".join(
            [
                f"switch --to {self.pool} would go from {self.former_pool} to generation {self.generation}; nothing was changed",
                f"Steps: {', '.join(self.steps)}. Way back: {self.way_back}",
                *self._blackout,
                *(f"Note: {note}" for note in self.notes),
                "One probe of each server, now:",
                *servers,
                self.diff.rstrip("\n"),
                f"Production: {self.production.text}",
            ],
        )

    @property
    def _blackout(self) -> list[str]:
        if self.warm is None:
            return [
                f"Expected blackout: {self.blackout_s:g} s (nginx holds no new server down; the gate proves them, before the swap)"
            ]
        likely, worst = self.plain_blackout_s["likely"], self.plain_blackout_s["worst"]
        plain = f"A plain reload would answer 502 for {likely:g} s, at worst {worst:g} s: new servers start down (default_down)"
        return [f"Expected blackout: {self.blackout_s:g} s: {self.warm.text}", *([plain] if worst else [])]


class CheckedLine(Value):
    """One server in nginx's own view (`check_status`) and in ours, by one probe now."""

    upstream: str
    pool: str
    server: str
    nginx_up: bool
    nginx: str
    ours_up: bool
    ours: str

    @property
    def text(self) -> str:
        return f"{self.pool}  {self.upstream}  {self.server}  nginx: {self.nginx}  ours: {self.ours}"


class StatusView(Value):
    """`status`: exit 0 where everything agrees, 3 with findings."""

    command: str
    exit: int
    production: Production
    generations: tuple[str, ...]
    edited: tuple[str, ...]
    master: int
    workers: int
    draining: tuple[int, ...]
    unfinished: str
    lock: str
    findings: tuple[str, ...]
    servers: tuple[CheckedLine, ...] = ()

    @property
    def text(self) -> str:
        old = f", {len(self.draining)} old workers finishing ({', '.join(map(str, self.draining))})" if self.draining else ""
        lines = [self.production.text, f"nginx master {self.master or 'unknown'}, {self.workers} workers{old}"]
        lines += [f"locked by {self.lock}"] if self.lock else []
        lines += ["servers by nginx's own check, and by one probe of ours now:"] if self.servers else []
        lines += [f"  {server.text}" for server in self.servers]
        lines += [f"FINDING: {finding}" for finding in self.findings]
        return "\n".join(lines)


class PastRun(Value):
    run: str
    at: str
    command: str
    pool: str
    former_pool: str
    generation: str
    outcome: str
    said: str
    user: str
    reason: str


class HistoryView(Value):
    """`history`: newest first."""

    command: str
    exit: int
    runs: tuple[PastRun, ...]

    @property
    def text(self) -> str:
        lines = [
            f"{past.at}  {past.command:8} {past.former_pool} -> {past.pool}  {past.user}{past.reason and f': {past.reason}'}\n"
            f"    {past.said.split(' | ')[0]}"
            for past in self.runs
        ]
        return "\n".join(lines) or "no run yet"


class FindingLine(Value):
    code: str
    level: str
    what: str
    hint: str


class LintView(Value):
    """`lint`: exit 0 without a finding, 3 with one."""

    command: str
    exit: int
    findings: tuple[FindingLine, ...]

    @property
    def text(self) -> str:
        lines = [f"{each.level.upper()} {each.code}: {each.what}\n    {each.hint}" for each in self.findings]
        return "\n".join(lines) or "nothing found"


class DrainView(Value):
    """`drain`: exit 0 when the former pool may be stopped, 3 while it may not."""

    command: str
    exit: int
    said: str
    safe: bool
    pool: str
    live: str
    addresses: tuple[str, ...]
    old_workers: tuple[int, ...]
    connections: dict[str, int]

    @property
    def text(self) -> str:
        return self.said


class InitView(Value):
    """`init`: what was found and what is to be changed; with `--apply`, what was."""

    command: str
    exit: int
    applied: bool
    said: str
    site_file: str
    site_text: str
    generation: str
    diff: str
    backup: str
    notes: tuple[str, ...]
    advice: tuple[str, ...]
    hint: str
    production: Production | None

    @property
    def text(self) -> str:
        lines = [self.said, ""]
        if not self.applied:
            lines += [
                f"--- {self.site_file} would hold",
                self.site_text.rstrip(),
                "",
                "--- nginx's configuration would change by one line",
            ]
        lines += [self.diff.rstrip(), ""]
        lines += [f"Note: {note}" for note in self.notes]
        lines += [f"Advice: {advice}" for advice in self.advice]
        if self.production is not None:
            lines.append(f"Production: {self.production.text}")
        return "\n".join([*lines, f"Next: {self.hint}"])
