"""Chores: changes that need no search, each judged by the project's own tests and written as a patch."""

CHORE_NAMES = ("rename", "move", "lint", "types", "upgrade", "bisect", "why")
