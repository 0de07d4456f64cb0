"""`upswitch init` and `upswitch leave`: putting an nginx under upswitch for the first time, and taking it out.

It may import switch and every room below it. Read in the order of the work: propose.py reads the host and refuses where init
would do harm. adopt.py works out the site file, the first generation and the edits: places.py knows what stands where, pools.py
what the other pools hold, edits.py the diff and the drain lines. apply.py does it and undoes it where it fails; change.py is what
leave.py does in the same way. found.py lists what nginx passes requests to.
"""
