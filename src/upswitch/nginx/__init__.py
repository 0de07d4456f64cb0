"""Reading an nginx: its binary, its configuration, its processes, what it reports; and the commands that test and reload it.

It may import hosts, site and basics. Begin with running.py (questions to an nginx on a host), then dump.py and configuration.py
(its configuration as one tree, and questions to that). drain_lines.py and drain_compare.py are about clients at a reload.
"""
