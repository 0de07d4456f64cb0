"""The causes that `diagnose` tells apart, a file for each family, and all their rules. Where two rules fit, the first one counts.

A new cause is a `Cause` and its rules in the file of its family. It may import what diagnose may. Begin with cause.py.
"""

from upswitch.diagnose.causes import answering, connecting, own, tls
from upswitch.diagnose.causes.cause import Cause, Code
from upswitch.logs.error_line import ErrorLine

_FAMILIES = (own, connecting, tls, answering)
CAUSES: dict[Code, Cause] = {cause.code: cause for family in _FAMILIES for cause in family.CAUSES}
RULES = tuple(rule for family in _FAMILIES for rule in family.RULES)


def cause_of(line: ErrorLine) -> Code | None:
    """None where the line is of nothing that `diagnose` knows."""
    return next((rule.code for rule in RULES if rule.fits(line)), None)
