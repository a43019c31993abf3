"""Speed, side by side with ml-metadata."""
