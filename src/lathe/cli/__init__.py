"""The command line: thin faces over the rooms below."""
