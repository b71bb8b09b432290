"""Tailer shows what a background job prints, while it prints it."""

__version__ = "0.1.0"
