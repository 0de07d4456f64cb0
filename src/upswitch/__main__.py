"""`python -m upswitch`."""

from upswitch.cli.main import main

main()
