"""`upswitch init`: putting an nginx under upswitch for the first time.

It may import switch and every room below it. Read in the order of the work: propose.py reads the host and refuses where init
would do harm, adopt.py works out the one edit and the first generation, apply.py does it and undoes it where it fails.
"""
