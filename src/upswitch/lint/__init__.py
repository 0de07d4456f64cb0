"""`upswitch lint`: what is wrong or dangerous in a site file, in nginx's configuration, and in the health checks there.

It may import switch and every room below it. A new rule takes two steps: write a function named after its code, in rules.py or
(about nginx's own health checks) in check_rules.py, and add it to RULES in lint.py, which lists all rules.
"""
