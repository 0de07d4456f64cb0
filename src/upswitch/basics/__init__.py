"""What every other room is written in: values, results and their reasons, errors, safe text.

It imports no other room. Begin with result.py.
"""
