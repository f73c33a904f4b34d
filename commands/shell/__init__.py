"""What all commands share: command lines and their help, the display of a run, and what is printed at its end."""
