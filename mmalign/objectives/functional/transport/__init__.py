"""Optimal transport: problem, solvers, gradients, similarity of sets."""
