"""Whole packages as one ZIP: ordered over HTTP, built by a function of its own, kept for some days.

The modules are imported one by one: who orders a bundle need not know how one is built.
"""
