"""What `plan` and `init` print: what would be changed, and what was."""

from typing import TYPE_CHECKING

import msgspec

from upswitch.basics.value import Value
from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import Production, View, production
from upswitch.cli.views.acted import GateLine, gate_line
from upswitch.generations.generation import Live

if TYPE_CHECKING:
    from upswitch.init.adopt import Proposal
    from upswitch.init.apply import Applied
    from upswitch.switch.plan import Planned


class WarmLine(Value):
    """What nginx's own health check must still prove. `generation` is what one extra reload makes live for that, "" for none."""

    generation: str
    why: str
    longest_s: float
    down: tuple[str, ...]

    @property
    def text(self) -> str:
        if not self.down and not self.generation:
            return "nginx's own health check calls every new server up already"
        reload = f"one extra reload with the new servers as a standby, generation {self.generation} ({self.why}), then "
        wait = f"a wait until nginx's own health check calls them up, at most {self.longest_s:g} s"
        return reload + wait if self.why else wait


class PlanView(View):
    """`plan`: nothing was changed. `plain_blackout_s` has `likely` and `worst` of a reload without upswitch."""

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
            return f"UNCHANGED: {self.pool} is already live with the same servers\nProduction: {self.production.text}"
        servers = [f"  {server.text}" for server in (*self.gate.new, *self.gate.old)]
        return "\n".join(
            [
                f"`switch --to {self.pool}` would go from {self.former_pool} to generation {self.generation}; nothing was changed",
                f"Steps: {', '.join(self.steps)}. A rollback would make {self.way_back} live.",
                *self._blackout,
                *(f"Note: {note}" for note in self.notes),
                "One health check of each server, now:",
                *servers,
                self.diff.rstrip("\n"),
                f"Production: {self.production.text}",
            ],
        )

    @property
    def _blackout(self) -> list[str]:
        if self.warm is None:
            return [
                f"Expected time with 502s: {self.blackout_s:g} s (nginx starts no new server as down; upswitch checks them first)"
            ]
        likely, worst = self.plain_blackout_s["likely"], self.plain_blackout_s["worst"]
        plain = f"A plain reload would cost 502s for {likely:g} s, at worst {worst:g} s: new servers start down (default_down)"
        return [f"Expected time with 502s: {self.blackout_s:g} s, after {self.warm.text}", *([plain] if worst else [])]


def planned(view: "Planned", live: Live) -> PlanView:
    return PlanView(
        command="plan",
        exit=Exit.DONE,
        pool=view.plan.pool,
        former_pool=view.plan.former_pool,
        generation=view.plan.to,
        way_back=view.plan.back,
        unchanged=view.is_unchanged,
        steps=tuple(view.steps),
        blackout_s=0.0,
        plain_blackout_s={"likely": round(view.warmth.plain.likely, 1), "worst": round(view.warmth.plain.worst, 1)},
        warm=_warm_line(view),
        notes=view.notes,
        gate=gate_line(view.gate),
        diff=view.diff,
        production=production(live),
    )


def _warm_line(view: "Planned") -> WarmLine | None:
    warmth = view.warmth
    if not any(warmth.wanted.values()):
        return None
    return WarmLine(generation=view.plan.warm, why=warmth.why, longest_s=round(warmth.longest, 1), down=warmth.down)


class InitView(View):
    """`init`: what was found and would be changed; with `--apply`, what was changed."""

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
                f"--- {self.site_file} would contain",
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


def proposed(proposal: "Proposal") -> InitView:
    from upswitch.init.site_text import without_secrets

    request = proposal.request
    return InitView(
        command="init",
        exit=Exit.DONE,
        applied=False,
        said=f"upswitch can manage {request.from_path} as pool {request.pool}; nothing was changed",
        site_file=request.out,
        site_text=without_secrets(proposal.site_text),
        generation=proposal.generation,
        diff=proposal.diff,
        backup=proposal.backup,
        notes=proposal.notes,
        advice=_advice(proposal),
        hint="run the same command with --apply; upswitch then makes the change, and undoes it if a step fails",
        production=None,
    )


def applied(proposal: "Proposal", done: "Applied", live: Live) -> InitView:
    return msgspec.structs.replace(
        proposed(proposal),
        applied=True,
        said=f"pool {proposal.request.pool} is live as generation {done.generation}; {done.tested}; {done.proof}",
        backup=done.backup,
        hint=f"read {proposal.request.out}, then run `upswitch lint`; {done.backup} is a copy of the original file",
        production=production(live),
    )


def _advice(proposal: "Proposal") -> tuple[str, ...]:
    """Lines for the owner to add by hand."""
    found = []
    if proposal.undrained:
        places = ", ".join(f"{place.file}:{place.line}" for place in proposal.undrained)
        texts = "\n".join(f"# {snippet.name}\n{snippet.text.rstrip()}" for snippet in proposal.snippets)
        found.append(f"add these lines at {places}, so that a reload loses no request:\n{texts}")
    if proposal.log_format:
        logs = ", ".join(proposal.logs)
        found.append(f"use this log format for {logs}, so that the watch can tell pools apart:\n{proposal.log_format}")
    return tuple(found)
