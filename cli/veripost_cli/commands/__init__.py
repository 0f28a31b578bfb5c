"""The commands: each parses, calls the client or the archive gate, prints, and returns its exit status."""
