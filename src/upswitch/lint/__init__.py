"""`upswitch lint`: what is wrong or dangerous in a site file, in nginx's configuration, and in the health checks there.

It may import switch and every room below it. A new rule takes three steps: write a function named after its code in the module of
its subject (rules.py for the site, upstream_rules.py, pass_rules.py, file_rules.py, check_rules.py, drain_rules.py), add it to
RULES in lint.py, and write its entry in rules.toml. files.py reads a configuration that lies on this machine.
"""
