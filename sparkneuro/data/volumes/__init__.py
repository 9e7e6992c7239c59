"""The volume store: equal, standardised 3-D and 4-D volumes in shards."""
