"""Lathe inside the harnesses that people already use: as Harbor's agent, and as Inspect's solver and sandbox."""
