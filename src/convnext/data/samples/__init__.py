"""Example data sets that packages ship."""
