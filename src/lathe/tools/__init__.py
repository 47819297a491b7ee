"""What can be done: the tools that a model can call, one file each."""
