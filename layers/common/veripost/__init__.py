"""VeriPost: takes a ZIP of vendor files in and makes it a record that can be trusted."""

__version__ = "0.1.0"
