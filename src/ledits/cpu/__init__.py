"""Faster layers for CPUs. Only `backbones.load` and `pack` know that they exist."""
