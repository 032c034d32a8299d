"""Intervals, tests and curves over rows of scores, and counts of codes."""
