"""Administration: what may be done to principals, access, rollouts and records, by whom, and how it is asked for."""
