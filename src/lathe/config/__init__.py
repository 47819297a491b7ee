"""Settings: layers of files, environment and flags, each value with its origin."""
