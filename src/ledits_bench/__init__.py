"""Benchmarks: scenes with known answers, and the public suites."""
