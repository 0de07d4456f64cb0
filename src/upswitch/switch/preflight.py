"""Looking before leaping: everything about a host that makes a switch impossible or unsafe, found before anything is done."""

from upswitch.basics.errors import Refusal
from upswitch.basics.result import Why
from upswitch.generations.survey import Facts
from upswitch.nginx import configuration
from upswitch.site.model import Nginx


def refusals(nginx: Nginx, facts: Facts, *, adopt: bool) -> tuple[Refusal, ...]:
    """Why a switch may not even begin. `adopt` accepts live files that were edited by hand."""
    found = list(blockers(nginx, facts))
    if facts.disk.drift and not adopt and not found:
        files = ", ".join(f"{nginx.live}/{name}" for name in facts.disk.drift)
        found.append(
            Refusal(
                what=f"edited since it was staged: {files}",
                hint="`upswitch status --json` names the files; --adopt takes them as they are, as the way back",
                why=Why.EDITED,
            ),
        )
    staged = facts.disk.manifest
    if not found and staged is not None and staged.marker not in {"", nginx.marker}:
        hint = f'set nginx.marker back to "{staged.marker}"; it can only be chosen by `upswitch init`'
        what = f"nginx.marker is {nginx.marker}, but {facts.disk.live} answers at {staged.marker}"
        found.append(Refusal(what=what, hint=hint, why=Why.MARKER))
    marker = facts.running.marker
    if not found and (marker is None or marker.generation != facts.disk.live):
        answer = marker.generation if marker else "nothing"
        found.append(
            Refusal(
                what=f"disk and nginx disagree: {nginx.live} is {facts.disk.live}, nginx answers {answer} at {nginx.marker}",
                hint="somebody changed one of them; `upswitch rollback --to N` loads and proves one generation",
                why=Why.DISAGREE,
            ),
        )
    return tuple(found)


def blockers(nginx: Nginx, facts: Facts) -> tuple[Refusal, ...]:
    """What stops even a rollback."""
    found = []
    if facts.running.problem:
        found.append(Refusal(what=facts.running.problem, hint=f"start nginx with {nginx.conf}, then try again", why=Why.NO_MASTER))
    if not facts.disk.live:
        found.append(
            Refusal(what=f"{nginx.live} points to no generation", hint="`upswitch init` makes the first one", why=Why.NO_GENERATION)
        )
    if facts.is_conf_read and configuration.includes_live(facts.conf, nginx.include) is None:
        what = f"{nginx.conf} does not include the live generation: a switch would change nothing"
        found.append(
            Refusal(
                what=what, hint=f"put `include {nginx.include};` into its http block, reload, then try again", why=Why.NOT_INCLUDED
            )
        )
    return tuple(found)
