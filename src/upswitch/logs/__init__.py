"""Lines of access and error logs: how a format is read, how lines are counted, where the files are, and how `--since` is read.

It may import nginx, hosts, site and basics. Begin with `line.py`: what a line says, and when its request counts as failed.
"""
