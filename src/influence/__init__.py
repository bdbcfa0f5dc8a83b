"""Influences: chunks of users, the solvers, other users, and what is expected of the next item."""
