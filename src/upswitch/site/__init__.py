"""The site file `upswitch.toml`: its values, and how it is read. Nothing here acts.

It may import basics only. Begin with model.py (what a site is), then read.py (TOML text in, a Site or every problem out).
"""
