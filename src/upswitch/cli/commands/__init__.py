"""One file for each command, with the function of the same name; options.py has what they share. main.COMMANDS lists them."""
