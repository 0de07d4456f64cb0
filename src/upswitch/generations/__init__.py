"""Generations: complete numbered folders of nginx files, of which one is live on a host.

It may import logs, nginx, hosts, site and basics. Begin with generation.py (what a generation is), then store.py (on disk) and
survey.py (a host as it is now).
"""
