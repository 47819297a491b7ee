"""Who is asked: one client per wire, and what they share."""
