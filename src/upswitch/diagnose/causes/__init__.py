"""The causes that `diagnose` tells apart, a file for each family. A new one is a `Cause` and its rules (cause.py)."""
