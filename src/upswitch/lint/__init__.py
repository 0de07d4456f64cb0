"""`upswitch lint`: what is wrong or dangerous in a site file, in nginx's configuration, and in the health checks there.

It may import switch and every room below it. A new rule takes two steps: write a function named after its code, in rules.py,
check_rules.py (nginx's own health checks) or drain_rules.py (the drain flag), and add it to RULES in lint.py.
"""
