"""Espalier fits a trained PyTorch network to the device that will run it."""

__version__ = "0.1.0"
