"""Fourier grids and transfer functions, shared by every modality."""
