"""Platforms: what a package of each kind must look like, and what its files say.

Data in `registry`, the check in `rules`, what readers give in `facts`. CAMWorks is read by `camworks_reader`,
which stands on `camworks`, `camworks_companions` and `camworks_notices`.
"""
