"""What we add to LocalStack: functions as processes, and SQS polling as concurrent as AWS does it.

Runs inside LocalStack's own environment; `plugin/` holds the entry points by which LocalStack finds it.
"""
