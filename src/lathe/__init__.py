"""Lathe: an open, self-hostable agentic coding system."""

__version__ = "0.1.0"
