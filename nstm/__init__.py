"""Motion-resolved reconstruction for multi-shot microscopes: the neural space-time model as a batch workflow."""
