"""A switch from one pool to another, and back: the machine, its plan, its steps, its journal and its proof.

It may import watch and every room below it; fleet, init and the command line import it.
Begin with machine.py (every move there is), then switch.py (the story of one command) and drive.py (the loop).
"""
