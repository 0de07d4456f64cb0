"""Several hosts as one switch or one rollback: when each host may switch, and one verdict over what all of them see.

It may import switch and the rooms below; only the command line imports it, and it knows nothing of views.
Begin with switching.py; going_back.py is the same for a rollback, together.py runs an act on every host at once.
"""
