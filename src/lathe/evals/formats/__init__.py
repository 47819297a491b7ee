"""Readers of task formats, one a file: each gives `Task`s."""
