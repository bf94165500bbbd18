"""Regression: one or several numbers a picture, in a unit, with intervals that are checked."""
