"""Whether the pool that took over is failing: whose a request is, the rule, and the loop that asks it once a second.

The watch imports `diagnose`, `health` and the rooms below. Begin with `rule.py`, then `attribution.py`; `watch.py` is the loop.
"""
