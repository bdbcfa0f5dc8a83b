"""Influences: chunks of users, the solvers, rows refitted, withdrawing, and what is expected of the next item."""
