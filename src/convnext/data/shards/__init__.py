"""Pictures in tars."""
