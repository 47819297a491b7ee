"""Edits that may repair a statement: one operator, one small function."""
