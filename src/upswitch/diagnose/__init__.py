"""Why clients get 502s: logs are counted by cause and server, and a live host is asked about what they say.

It may import health and every room below it. Only `host.py` and `run.py` act. Begin with `diagnose.py`.
"""
