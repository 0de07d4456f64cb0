"""Whether the new pool is failing: which pool answered a request, the rule, and the loop that applies it once a second.

It may import diagnose and every room below it. Begin with `rule.py`, then `attribution.py`; `watch.py` is the loop.
"""
