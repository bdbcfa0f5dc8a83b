"""Studies: the trade-off, carry-over, the paper's table, fidelity, leakage, withdrawing, reasons, speed and scaling."""
