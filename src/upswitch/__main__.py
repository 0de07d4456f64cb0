"""`python -m upswitch`."""

from upswitch.cli import main

main()
