"""BIDS-Apps: their commands, attempts, logs and receipts."""
