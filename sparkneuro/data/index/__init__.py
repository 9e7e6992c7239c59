"""The BIDS index: which files an archive has, what is known of each, and which are wanted."""
