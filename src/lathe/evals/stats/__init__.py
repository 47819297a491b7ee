"""Statistics of runs: intervals, pass@k, paired comparisons, and how many trials would settle a question.

Plain Python: a run has hundreds of trials, and figures that a card publishes must come out the same everywhere.
"""
