"""All causes and all rules, and which cause an error line has. The order of rules decides where two fit."""

from upswitch.diagnose.causes import answering, connecting, own, tls
from upswitch.diagnose.causes.cause import Cause, Code
from upswitch.logs.error_line import ErrorLine

_FAMILIES = (own, connecting, tls, answering)
CAUSES: dict[Code, Cause] = {cause.code: cause for family in _FAMILIES for cause in family.CAUSES}
RULES = tuple(rule for family in _FAMILIES for rule in family.RULES)


def cause_of(line: ErrorLine) -> Code | None:
    """None where the line is of nothing that `diagnose` knows."""
    return next((rule.code for rule in RULES if rule.fits(line)), None)
