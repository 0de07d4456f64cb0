"""What `plan`, `init` and `drain-lines` print: what would be changed, and what was."""

import re
import shlex
from typing import TYPE_CHECKING

from upswitch.cli.exit_codes import Exit
from upswitch.cli.views import View, next_lines
from upswitch.generations.generation import Live

if TYPE_CHECKING:
    from upswitch.init.add_log import AddingLog, LogAdded
    from upswitch.init.adopt import Proposal
    from upswitch.init.apply import Applied
    from upswitch.init.found import FoundUpstream
    from upswitch.init.leave import Leaving, Left
    from upswitch.nginx.drain_lines import DrainLines
    from upswitch.switch.plan import Planned


_FILES = re.compile(r"^(?=--- .*\n\+\+\+ )", re.MULTILINE)
_MARKER = re.compile(r"--- .*/marker\.conf\n")
"""Its diff is left out of the text: it has the name of the generation, and nothing that an owner wrote."""


def without_marker(diff: str) -> str:
    """A diff as people read it."""
    return "".join(part for part in _FILES.split(diff) if not _MARKER.match(part)).rstrip("\n")


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
        ending = f"`switch --to {plan.pool}` would end with exit {self.exit} now" if refused else ""
        if found.is_unchanged:
            unchanged = f"UNCHANGED: {plan.pool} is already live with the same servers"
            return "\n".join([*(refused or [unchanged]), f"Production: {self.production.text}"])
        return "\n".join(
            [
                f"`switch --to {plan.pool}` would go from {plan.former_pool} to generation {plan.to}; nothing was changed",
                f"Steps: {', '.join(found.steps)}. A rollback would make {plan.back} live.",
                *self._blackout,
                *(f"Note: {note}" for note in found.notes),
                "One health check of each server, now:",
                *(f"  {server.text}" for server in (*found.gate.new, *found.gate.old)),
                without_marker(found.diff),
                *refused,
                *filter(None, [ending]),
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


class ChangeView(View):
    """`init` and `leave`: what would be changed; with `--apply`, what was changed (`done`), and what serves now."""

    proposal: "Proposal | Leaving | AddingLog"
    done: "Applied | Left | LogAdded | None" = None
    production: Live | None = None

    @property
    def unserved(self) -> tuple[str, ...]:
        """Requests through nginx that no server answers."""
        return self.done.unserved if self.done else ()

    @property
    def is_applied(self) -> bool:
        return self.done is not None

    @property
    def head(self) -> list[str]:
        return [f"NOT SERVED, before {self.command} and now: {each}" for each in self.unserved]

    @property
    def foot(self) -> list[str]:
        """What serves now, and what to do next."""
        return [*([f"Production: {self.production.text}"] if self.production else []), *next_lines(self.hint)]

    @property
    def hint(self) -> str:
        return "run the same command with --apply; upswitch then makes the change, and undoes it if a step fails"


class InitView(ChangeView):
    """`init`. `words` are the options that choose the new site. `is_asked`: a person is asked, and has seen the change already."""

    proposal: "Proposal"
    done: "Applied | None" = None
    words: tuple[str, ...] = ()
    is_asked: bool = False

    @property
    def said(self) -> str:
        request = self.proposal.request
        if self.done is None:
            names = ", ".join(upstream.name for upstream in self.proposal.site.upstreams)
            return f"upswitch can manage upstream {names} with its live pool {request.pool}; nothing was changed"
        return f"pool {request.pool} is live as generation {self.done.generation}; {self.done.tested}; {self.done.proof}"

    @property
    def hint(self) -> str:
        pools = self.proposal.site.pools
        if self.done is None:
            missing = "name the other pool with --other SERVERS, or write it into the site file later; "
            return f"{missing if len(pools) == 1 else ''}{super().hint}"
        check = shlex.join(("upswitch", "diagnose" if self.unserved else "lint", *self.words))
        plan, switch = (shlex.join(("upswitch", verb, *self.words, "--to", pools[-1])) for verb in ("plan", "switch"))
        first = f"; `{plan}` shows the first switch; `{switch}` makes it" if len(pools) > 1 else ""
        copies = _copies(self.backups)
        return f"read {self.proposal.request.out}, then run `{check}`{first}; {copies} of what was edited"

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
            wanted = [each for each in proposal.drain_lines if each.lines]
            places = ", ".join(f"{each.file}:{each.line}" for each in wanted)
            lines = f"add the drain lines, so that a reload loses no request:\n{texts}" if wanted else f"{_NO_CURE}:\n{texts}"
            is_offered = wanted and not proposal.request.drain_lines
            found.append(f"add --drain-lines to the command: it writes lines at {places}. {_LOSS}" if is_offered else lines)
        if proposal.log_format:
            logs = ", ".join(proposal.logs)
            found.append(
                f"add a log with this format beside {logs}, so that the watch can tell pools apart:\n{proposal.log_format}"
            )
        return tuple(found)

    @property
    def text(self) -> str:
        lines = [self.said, *self.head, ""]
        if self.is_applied and self.is_asked:
            return "\n".join([*lines[:-1], *self.foot])
        if not self.is_applied:
            kept = [line for line in self.site_text.splitlines() if line and not _COMMENT.match(line)]
            lines += [f"--- {self.proposal.request.out} would contain, beside comments on each key", *kept, ""]
            count = len(self.proposal.edits)
            lines += [f"--- nginx's configuration would change in {count} {'file' if count == 1 else 'files'}"]
        lines += [self.proposal.diff.rstrip(), ""]
        lines += [f"Note: {note}" for note in self.proposal.notes]
        lines += [f"Advice: {advice}" for advice in self.advice]
        return "\n".join([*lines, *([] if self.is_asked else self.foot)])


_COMMENT = re.compile(r"# (?!NOTE: |\S+ = \[\.\.\.\])")
_LOSS = "Without them a reload of nginx before 1.27.4 cuts idle clients off, and some lose a request"


def _copies(backups: tuple[str, ...]) -> str:
    return f"{', '.join(backups)} {'is a copy' if len(backups) == 1 else 'are copies'}"


_NO_CURE = "a reload loses a few requests, because no drain lines fit these locations"


class LeaveView(ChangeView):
    """`leave`. `file` is the site file, which stays."""

    proposal: "Leaving"
    done: "Left | None" = None
    file: str = ""

    @property
    def backup(self) -> str:
        """The file with the include as it was."""
        return self.backups[-1]

    @property
    def backups(self) -> tuple[str, ...]:
        """Every edited file as it was."""
        return self.done.backups if self.done else tuple(edit.backup for edit in self.proposal.edits)

    @property
    def said(self) -> str:
        pool = self.proposal.pool
        if self.done is None:
            return f"the blocks of pool {pool} would replace the include at {self.proposal.include}; nothing was changed"
        return f"nginx serves pool {pool} without upswitch; {self.done.tested}; {self.done.proof}"

    @property
    def hint(self) -> str:
        if self.done is None:
            return super().hint
        return f"remove {self.file}, or keep it for a later init with --out; {_copies(self.backups)} of what was edited"

    @property
    def text(self) -> str:
        notes = [f"Note: {note}" for note in self.proposal.notes]
        if self.done and self.done.remains:
            notes.append(f"Note: the log of the watch could not be removed: {self.done.remains}")
        return "\n".join([self.said, *self.head, "", self.proposal.diff.rstrip(), "", *notes, *self.foot])


class LogView(ChangeView):
    """`init` on a site that is managed already: the log of our own for the watch. `words` are the options that choose the site."""

    proposal: "AddingLog"
    done: "LogAdded | None" = None
    words: tuple[str, ...] = ()

    @property
    def is_needed(self) -> bool:
        return bool(self.proposal.own_log.edits)

    @property
    def said(self) -> str:
        if self.done is not None:
            return f"nginx writes {self.proposal.own_log.path} for the watch; {self.done.tested}; {self.done.proof}"
        if self.is_needed:
            return "the watch would get a log of its own; nothing was changed"
        why = "see the notes" if self.proposal.notes else "the access logs have all that the watch needs"
        return f"no log is added: {why}; nothing was changed"

    @property
    def hint(self) -> str:
        if self.done is not None:
            return f"run `{shlex.join(('upswitch', 'lint', *self.words))}`; {_copies(self.backups)} of what was edited"
        return super().hint if self.is_needed else ""

    @property
    def backups(self) -> tuple[str, ...]:
        """Every edited file as it was."""
        return self.done.backups if self.done else tuple(edit.backup for edit in self.proposal.own_log.edits)

    @property
    def text(self) -> str:
        notes = [f"Note: {note}" for note in self.proposal.notes]
        return "\n".join([self.said, *self.head, "", *filter(None, [self.proposal.diff]), *notes, *self.foot])


class FoundView(View):
    """`init` without a choice: what nginx passes requests to. `words` are the options that name this nginx.

    `is_asked`: a person is asked, so no command is shown.
    """

    upstreams: tuple["FoundUpstream", ...]
    words: tuple[str, ...] = ()
    is_asked: bool = False

    @property
    def said(self) -> str:
        count = len(self.upstreams)
        return f"nginx passes requests to {count} {'upstream' if count == 1 else 'upstreams'}; nothing was changed"

    @property
    def commands(self) -> tuple[str, ...]:
        """For each upstream: the command that shows what init would change."""
        return tuple(self._command(each) for each in self._free)

    @property
    def together(self) -> tuple[str, ...]:
        """For each file with several upstreams: the command that shows what init would change for all of them as one site."""
        files: dict[tuple[str, str], list[FoundUpstream]] = {}
        for each in self._free:
            if each.place:
                files.setdefault((each.place.rpartition(":")[0], each.pool), []).append(each)
        return tuple(self._command(*several) for several in files.values() if len(several) > 1)

    @property
    def _free(self) -> list["FoundUpstream"]:
        free = [each for each in self.upstreams if not each.is_managed]
        return [each for each in free if each.passes or len(free) == 1]

    def _command(self, *chosen: "FoundUpstream") -> str:
        names = [word for each in chosen for word in ("--upstream", each.name)]
        others = [word for each in chosen for word in each.other(among=len(chosen))]
        return shlex.join(("upswitch", "init", *names, "--pool", chosen[0].pool or "A", *others, *self.words))

    @property
    def text(self) -> str:
        lines = [self.said]
        for number, each in enumerate(self.upstreams, 1):
            kind = f"upstream {each.name} at {each.place}" if each.place else f"address {each.name}, without an upstream block"
            lines.append(f"{number}. {kind}{' (managed by upswitch)' if each.is_managed else ''}")
            lines += [f"     server {server}" for server in each.servers if each.place]
            lines += [f"     requests come from {place}" for place in each.passes] or ["     nothing passes requests to it"]
            lines += [f"     its other pool may be {other}" for other in each.others]
        if self.is_asked and self._free:
            return "\n".join(lines)
        if self.commands:
            lines += ["Next: show the change for one of them, with your own name for its live pool. --other gives the other pool:"]
            lines += [f"        {command}" for command in self.commands]
        if self.together:
            lines += ["      Each is a site of its own. To switch the upstreams of one file together:"]
            lines += [f"        {command}" for command in self.together]
        if not self.upstreams:
            lines += ["Next: let a location pass requests to your servers, reload nginx, then run init again. Such as:"]
            lines += ["        proxy_pass http://127.0.0.1:8001;"]
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
