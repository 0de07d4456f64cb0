"""The command line: what a person types, what upswitch prints, and the exit code.

It may import every other room, and nothing imports it. Begin with main.py (the table of commands), then commands/status.py and
program.py; views/ makes every text of a result.
"""
