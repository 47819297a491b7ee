"""Chores: changes that need no search, each judged by the project's own tests and written as a patch."""
