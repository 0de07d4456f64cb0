"""One file for each command, with the function of the same name; invocation.py has what they share. main.COMMANDS lists them."""
