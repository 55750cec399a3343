"""Conventional reconstructions: what every result of the space-time fit is compared with."""
