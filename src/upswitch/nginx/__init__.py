"""Reading an nginx: its binary, its configuration, its processes, and what it reports about itself.

It may import hosts, site and basics. Begin with running.py (questions to an nginx on a host), then dump.py and configuration.py
(its configuration as one tree, and questions to that).
"""
