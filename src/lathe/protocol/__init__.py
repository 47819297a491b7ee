"""The words of the system: items, events, usage, errors and ids. No I/O."""
