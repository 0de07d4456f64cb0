"""What `plan`, `init` and `drain-lines` print: what would be changed, and what was."""

import shlex
from typing import TYPE_CHECKING

from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View, next_lines
from upswitch.generations.generation import Live

if TYPE_CHECKING:
    from upswitch.init.adopt import Proposal
    from upswitch.init.apply import Applied
    from upswitch.init.found import FoundUpstream
    from upswitch.init.leave import Leaving, Left
    from upswitch.nginx.drain_lines import DrainLines
    from upswitch.switch.plan import Planned


class PlanView(View):
    """`plan`: nothing was changed."""

    planned: "Planned"
    production: Live

    @property
    def blackout_s(self) -> float:
        """Seconds of 502s that this switch costs."""
        return 0.0

    @property
    def plain_blackout_s(self) -> dict[str, float]:
        """Those of a reload without upswitch."""
        plain = self.planned.warmth.plain
        return {"likely": round(plain.likely, 1), "worst": round(plain.worst, 1)}

    @property
    def warm(self) -> dict[str, object] | None:
        """What nginx's own health check must still prove. `generation`: an extra reload makes it live for that, "" for none."""
        warmth = self.planned.warmth
        if not any(warmth.wanted.values()):
            return None
        return {"generation": self.planned.plan.warm, "why": warmth.why, "longest_s": round(warmth.longest, 1), "down": warmth.down}

    @property
    def text(self) -> str:
        found, plan = self.planned, self.planned.plan
        refused = [f"`switch --to {plan.pool}` would be refused because {each.what}\n  {each.hint}" for each in found.refusals]
        if found.is_unchanged:
            unchanged = f"UNCHANGED: {plan.pool} is already live with the same servers"
            return "\n".join([*(refused or [unchanged]), f"Production: {self.production.text}"])
        return "\n".join(
            [
                *refused,
                f"`switch --to {plan.pool}` would go from {plan.former_pool} to generation {plan.to}; nothing was changed",
                f"Steps: {', '.join(found.steps)}. A rollback would make {plan.back} live.",
                *self._blackout,
                *(f"Note: {note}" for note in found.notes),
                "One health check of each server, now:",
                *(f"  {server.text}" for server in (*found.gate.new, *found.gate.old)),
                found.diff.rstrip("\n"),
                f"Production: {self.production.text}",
            ],
        )

    @property
    def _blackout(self) -> list[str]:
        expected = f"Expected time with 502s: {self.blackout_s:g} s"
        if self.warm is None:
            return [f"{expected} (nginx starts no new server as down; upswitch checks them first)"]
        likely, worst = self.plain_blackout_s["likely"], self.plain_blackout_s["worst"]
        plain = f"A plain reload would cost 502s for {likely:g} s, at worst {worst:g} s: new servers start down (default_down)"
        return [f"{expected}, after {self._warming}", *([plain] if worst else [])]

    @property
    def _warming(self) -> str:
        warmth, generation = self.planned.warmth, self.planned.plan.warm
        if not warmth.down and not generation:
            return "nginx's own health check calls every new server up already"
        reload = f"one extra reload with the new servers as a standby, generation {generation} ({warmth.why}), then "
        wait = f"a wait until nginx's own health check calls them up, at most {round(warmth.longest, 1):g} s"
        return reload + wait if warmth.why else wait


def planned(found: "Planned", live: Live) -> PlanView:
    return PlanView(command="plan", exit=Exit.FINDINGS if found.refusals else Exit.DONE, planned=found, production=live)


class InitView(View):
    """`init`: what was found and would be changed; with `--apply`, what was changed (`done`), and what serves now.

    `words` are the options that choose the new site.
    """

    proposal: "Proposal"
    done: "Applied | None" = None
    production: Live | None = None
    words: tuple[str, ...] = ()

    @property
    def unserved(self) -> tuple[str, ...]:
        """Requests through nginx that no server answers."""
        return self.done.unserved if self.done else ()

    @property
    def is_applied(self) -> bool:
        return self.done is not None

    @property
    def said(self) -> str:
        request = self.proposal.request
        if self.done is None:
            names = ", ".join(upstream.name for upstream in self.proposal.site.upstreams)
            return f"upswitch can manage upstream {names} with its live pool {request.pool}; nothing was changed"
        return f"pool {request.pool} is live as generation {self.done.generation}; {self.done.tested}; {self.done.proof}"

    @property
    def hint(self) -> str:
        if self.done is None:
            return "run the same command with --apply; upswitch then makes the change, and undoes it if a step fails"
        following = shlex.join(("upswitch", "diagnose" if self.unserved else "lint", *self.words))
        copies = f"{', '.join(self.backups)} {'is a copy' if len(self.backups) == 1 else 'are copies'}"
        return f"read {self.proposal.request.out}, then run `{following}`; {copies} of what was edited"

    @property
    def backup(self) -> str:
        """The file of the adoption as it was."""
        return self.backups[0]

    @property
    def backups(self) -> tuple[str, ...]:
        """Every edited file as it was."""
        return self.done.backups if self.done else tuple(edit.backup for edit in self.proposal.edits)

    @property
    def site_text(self) -> str:
        from upswitch.init.site_text import without_secrets

        return without_secrets(self.proposal.site_text)

    @property
    def advice(self) -> tuple[str, ...]:
        """Lines for the owner to add by hand."""
        proposal, found = self.proposal, []
        if proposal.drain_lines:
            texts = "\n".join(each.text for each in proposal.drain_lines)
            by_itself = "" if proposal.request.drain_lines else "; `--apply --drain-lines` writes them"
            has_lines = any(each.lines for each in proposal.drain_lines)
            add = f"add the drain lines, so that a reload loses no request{by_itself}" if has_lines else _NO_CURE
            found.append(f"{add}:\n{texts}")
        if proposal.log_format:
            logs = ", ".join(proposal.logs)
            found.append(f"use this log format for {logs}, so that the watch can tell pools apart:\n{proposal.log_format}")
        return tuple(found)

    @property
    def text(self) -> str:
        request = self.proposal.request
        lines = [self.said, *(f"NOT SERVED, before init and now: {each}" for each in self.unserved), ""]
        if not self.is_applied:
            lines += [f"--- {request.out} would contain", self.site_text.rstrip(), ""]
            count = len(self.proposal.edits)
            lines += [f"--- nginx's configuration would change in {count} {'file' if count == 1 else 'files'}"]
        lines += [self.proposal.diff.rstrip(), ""]
        lines += [f"Note: {note}" for note in self.proposal.notes]
        lines += [f"Advice: {advice}" for advice in self.advice]
        if self.production is not None:
            lines.append(f"Production: {self.production.text}")
        return "\n".join([*lines, *next_lines(self.hint)])


_NO_CURE = "a reload loses a few requests, because no drain lines fit these locations"


class LeaveView(View):
    """`leave`: what would be changed; with `--apply`, what was changed (`done`). `file` is the site file, which stays."""

    proposal: "Leaving"
    done: "Left | None" = None
    production: Live | None = None
    file: str = ""

    @property
    def is_applied(self) -> bool:
        return self.done is not None

    @property
    def unserved(self) -> tuple[str, ...]:
        """Requests through nginx that no server answers."""
        return self.done.unserved if self.done else ()

    @property
    def backup(self) -> str:
        """The edited file as it was."""
        return self.done.backup if self.done else self.proposal.edit.backup

    @property
    def said(self) -> str:
        pool = self.proposal.pool
        if self.done is None:
            return f"the blocks of pool {pool} would replace the include at {self.proposal.include}; nothing was changed"
        return f"nginx serves pool {pool} without upswitch; {self.done.tested}; {self.done.proof}"

    @property
    def hint(self) -> str:
        if self.done is None:
            return "run the same command with --apply; upswitch then makes the change, and undoes it if a step fails"
        return f"remove {self.file}, or keep it for a later init with --out; {self.backup} is a copy of what was edited"

    @property
    def text(self) -> str:
        lines = [self.said, *(f"NOT SERVED, before leave and now: {each}" for each in self.unserved), ""]
        lines += [self.proposal.diff.rstrip(), ""]
        lines += [f"Production: {self.production.text}"] if self.production is not None else []
        return "\n".join([*lines, *next_lines(self.hint)])


class FoundView(View):
    """`init` without a choice: what nginx passes requests to."""

    upstreams: tuple["FoundUpstream", ...]

    @property
    def said(self) -> str:
        count = len(self.upstreams)
        return f"nginx passes requests to {count} {'upstream' if count == 1 else 'upstreams'}; nothing was changed"

    @property
    def commands(self) -> tuple[str, ...]:
        """For each upstream: the command that shows what init would change."""
        free = [each for each in self.upstreams if not each.is_managed]
        return tuple(shlex.join(each.words) for each in free if each.passes or len(free) == 1)

    @property
    def text(self) -> str:
        lines = [self.said]
        for number, each in enumerate(self.upstreams, 1):
            kind = f"upstream {each.name} at {each.place}" if each.place else f"address {each.name}, without an upstream block"
            lines.append(f"{number}. {kind}{' (managed by upswitch)' if each.is_managed else ''}")
            lines += [f"     server {server}" for server in each.servers if each.place]
            lines += [f"     requests come from {place}" for place in each.passes] or ["     nothing passes requests to it"]
            lines += [f"     its other pool may be {other}" for other in each.others]
        if self.commands:
            lines += ["Next: show the change for one of them, with your own name for its live pool:"]
            lines += [f"        {command}" for command in self.commands]
        if len(self.commands) > 1:
            lines += ["      Each is a site of its own. To switch several at once, repeat --upstream in one command."]
        return "\n".join(lines)


class DrainLinesView(View):
    """`drain-lines`: nothing was changed. `is_needed`: whether this nginx needs any."""

    needed: tuple["DrainLines", ...]
    is_needed: bool
    test: str

    @property
    def said(self) -> str:
        if not self.is_needed:
            return "Nothing to add: nginx 1.27.4 and later needs no drain lines"
        if not self.needed:
            return "Nothing to add: every location has its drain lines"
        if not any(each.lines for each in self.needed):
            return f"Nothing to add: {_NO_CURE}"
        return f"Add these lines, then run `{self.test}`, reload nginx, and run `upswitch lint`"

    @property
    def pasted(self) -> str:
        """As it can be pasted."""
        return "\n".join(each.text for each in self.needed)

    @property
    def text(self) -> str:
        return "\n".join([self.said, *filter(None, [self.pasted])])


def drain_lines(needed: tuple["DrainLines", ...], *, is_needed: bool, test: str) -> DrainLinesView:
    return DrainLinesView(command="drain-lines", exit=Exit.DONE, needed=needed, is_needed=is_needed, test=test)
