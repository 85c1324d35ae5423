"""A plan in, metrics out: evaluator, store and Pareto archive."""
