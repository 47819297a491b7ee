"""Where trials run: a root file system with bubblewrap, or containers."""
