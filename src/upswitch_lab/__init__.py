"""The laboratory: a private nginx, real servers and a real load on loopback, for `upswitch demo`, the tests and the benches.

It may import upswitch; upswitch imports it in one place, lazily (cli/commands/demo.py). Begin with lab.py.
"""
