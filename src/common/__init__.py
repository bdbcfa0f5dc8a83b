"""What all stages share: files, tables, records, locks, the terminal, pictures."""
