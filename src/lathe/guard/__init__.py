"""What may be done: checks of commands and files, policies, decisions."""
