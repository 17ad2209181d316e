"""Channels out of a network."""
