"""Classification: one label a picture, or any number of labels. Its reporting is imported without torch."""
