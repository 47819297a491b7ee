"""Evaluations: task formats, environments, agents under test, trials, statistics, trajectories."""
