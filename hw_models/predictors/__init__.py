"""Predictors of latency that are fitted to measurements, with their own error bars."""
