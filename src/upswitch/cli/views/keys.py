"""The keys of the JSON that every command prints. docs/json.md says what each of them means."""

import functools
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import msgspec

KEYS = {
    "Live": "pool running disk proved=agrees held_down text",
    "GateReport": "verdict seconds way_back=has_way_back new old",
    "ServerHealth": "target.upstream target.server up=is_up ok failed error text",
    "WatchReport": """
        verdict=final said seconds failed total mode judgement.answers judgement.before peers_down reasons findings notes""",
    "Setting": "name value place text",
    "Asked": "upstream pool target.server live=is_live up=probe.ok text",
    "Compared": "upstream pool server=nginx.address nginx_up=nginx.is_up nginx=nginx.state ours_up=ours.ok ours=ours_said",
    "Run": """
        plan.run at=started plan.command plan.pool plan.former_pool generation=plan.to outcome=ending said plan.user plan.reason
        why cause""",
    "ReportView": """
        command exit site said run seconds proof steps=run.steps gate seen watch causes notes diff lacks page""",
    "Answer": "question numbers yes=is_yes",
    "PlanView": """
        command exit planned.plan.pool planned.plan.former_pool generation=planned.plan.to way_back=planned.plan.back
        unchanged=planned.is_unchanged planned.steps blackout_s plain_blackout_s warm planned.notes planned.gate planned.diff
        planned.refusals production""",
    "InitView": """
        command exit applied=is_applied said site_file=proposal.request.out site_text proposal.generation proposal.diff backup
        backups proposal.notes advice unserved hint production""",
    "LogView": """
        command exit applied=is_applied said log=proposal.own_log.path proposal.diff backups proposal.notes unserved hint
        production""",
    "LintView": "command exit findings",
    "LeaveView": """
        command exit applied=is_applied said proposal.generation proposal.pool proposal.diff backup backups proposal.notes
        unserved hint production""",
    "FoundView": "command exit said upstreams commands together",
    "FoundUpstream": "name place servers passes others pool managed=is_managed",
    "DrainLinesView": "command exit said blocks=needed pasted",
    "DrainLines": "file line block lines no_cure remove",
    "DrainView": """
        command exit report.said safe=report.is_safe report.pool report.live report.addresses report.old_workers
        report.connections used_at=report.used report.requests""",
    "DiagnoseView": """
        command exit said found.since findings=found.diagnosis.findings problems servers=found.asked found.listeners found.whose
        found.read found.zone found.diagnosis.unread notes""",
    "WatchView": """
        command exit said seen.verdict would seen.at_s at=seen.began seen.pool seen.generation seen.seconds seen.failed seen.total
        seen.mode seen.judgement.answers seen.judgement.before seen.judgement.thresholds seen.notes seen.peers_down
        seen.reasons seen.changes looks told""",
    "DemoView": """
        command exit clients chapters load load.first_failure_s load.last_failure_s suffered_s rule reason differs nginx pool
        history seconds folder""",
}
"""By the name of a value's class: its keys, each with the attribute behind it (`up=is_up`), or named as that (`target.server`).

A class without a row has the keys of its fields.
"""


def encoded(value: Any) -> Any:
    """A view, or a part of one, as JSON has it."""
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field else {}
        return tag | {key: encoded(get(value)) for key, get in getters(type(value)).items()}
    if isinstance(value, Mapping):
        return {key: encoded(each) for key, each in value.items()}
    return [*map(encoded, value)] if isinstance(value, tuple) else value


@functools.cache
def getters(kind: type[msgspec.Struct]) -> dict[str, Callable[[Any], Any]]:
    """By key: what gives its value."""
    row = KEYS[kind.__name__].split() if kind.__name__ in KEYS else kind.__struct_fields__
    pairs = [word.partition("=") for word in row]
    return {key.rpartition(".")[2]: attrgetter(path or key) for key, _, path in pairs}
