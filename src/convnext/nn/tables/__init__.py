"""What is known of models before they are built."""
