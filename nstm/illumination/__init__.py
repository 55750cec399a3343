"""Estimation of the illumination of SIM from its raw frames."""
