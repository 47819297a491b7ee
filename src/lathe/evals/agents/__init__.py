"""Agents under test, one adapter a file."""
