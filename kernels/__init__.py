"""Kernels that execute compressed layers."""
