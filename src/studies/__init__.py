"""Studies: the trade-off, fidelity of influences, speed and scaling."""
