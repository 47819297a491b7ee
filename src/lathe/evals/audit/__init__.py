"""The audit of trials: whether a reward was earned, and whether a task can be trusted to tell."""
