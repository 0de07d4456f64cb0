"""The command line: what a person types, what upswitch prints, and the exit code.

It may import every other room, and no other room imports it. Begin with main.py (the table of commands), then commands/status.py
and program.py; views/ lays out what is printed.
"""
