"""Lookup tables: what operators cost on a device, in files that people can read and share."""
