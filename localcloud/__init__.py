"""The local cloud: AWS on one machine, without Docker (docs/local-cloud.md)."""
