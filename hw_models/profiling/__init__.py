"""Timing on this machine, live."""
