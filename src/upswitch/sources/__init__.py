"""The sources of a pool's servers: what they say is read once, for one switch, and becomes a plain list in the site.

It may import nginx, hosts, site and basics. Begin with `listed.py` (a text in, servers or a problem out), then `here.py`.
"""
