"""Checking a data set before anyone trains on it."""
