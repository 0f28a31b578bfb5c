"""Platforms: what a package of each kind must look like, and what its files say.

Data in `registry`, the check in `rules`; CAMWorks is read by `camworks`, `camworks_companions` and
`camworks_notices`.
"""
