"""What the raw data are worth, and how far a reconstruction can be believed."""
