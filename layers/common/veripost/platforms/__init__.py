"""Platforms: what a package of each kind must look like. Data in `registry`, the check in `rules`."""
