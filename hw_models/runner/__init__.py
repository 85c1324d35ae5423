"""Measuring on a device that has no Espalier: models and a program to copy there, and reading what it found."""
