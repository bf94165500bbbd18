"""The same network, faster."""
