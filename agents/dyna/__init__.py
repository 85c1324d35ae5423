"""Dyna: between real evaluations a planner works through thousands of simulated walks against a surrogate."""
