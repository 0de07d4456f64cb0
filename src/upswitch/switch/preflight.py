"""Looking before leaping: everything about a host that makes a switch impossible or unsafe, found before anything is done."""

from upswitch.basics.errors import NginxBrokenError, Refusal, RefusedError
from upswitch.basics.result import Why
from upswitch.generations import survey
from upswitch.generations.survey import Facts
from upswitch.hosts.host import Host
from upswitch.nginx import configuration
from upswitch.site.model import Nginx, Site


def surveyed(host: Host, site: Site, *, adopt: bool) -> Facts:
    """The host as it is, fit for a switch; RefusedError where it is not."""
    facts = _survey(host, site)
    refuse_if(refusals(site.nginx, facts, adopt=adopt))
    return facts


def way_back_facts(host: Host, site: Site) -> Facts:
    """A way back must not need a configuration that passes now: the live generation may be its fault."""
    try:
        return _survey(host, site)
    except RefusedError:
        return survey.survey_without_conf(host, site.nginx)


def _survey(host: Host, site: Site) -> Facts:
    try:
        return survey.survey(host, site.nginx, tuple(upstream.name for upstream in site.upstreams))
    except NginxBrokenError as exc:
        is_ours = any(file.startswith(f"{site.nginx.dir}/") for file in exc.files)
        mend = (
            "the live generation itself does not pass: `upswitch rollback` goes back"
            if is_ours
            else "mend it until `nginx -t` passes"
        )
        hint = f"{mend}; nothing of this run was done"
        raise RefusedError(Refusal(what=f"nginx -T fails: {exc.said}", hint=hint, why=Why.BAD_CONFIG)) from exc


def refuse_if(refusals: tuple[Refusal, ...]) -> None:
    if refusals:
        raise RefusedError(*refusals)


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
