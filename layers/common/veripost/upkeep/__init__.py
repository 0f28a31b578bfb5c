"""Upkeep: everything that keeps the promise that what landed ends, and that what ended stays whole.

`sweep` finds what nobody works on, `deletion` takes packages away, `replay` starts them anew, `announcing`
tells the outside, `doctor` compares what is stored with what is recorded.
"""
