"""Whether servers are healthy: our own probes and their rule, and what nginx's own check says.

It may import generations and every room below it. Begin with `gate.py`, the rule; a check type is a file in `types/`.
"""
