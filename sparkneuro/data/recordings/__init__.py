"""Recordings: signals over time, whatever the format."""
