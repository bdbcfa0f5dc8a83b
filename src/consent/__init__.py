"""Who said what: unwillingness and rules, vetoes, withdrawals, receipts, and what may be used after all of them."""
