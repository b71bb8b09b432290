"""Tailer shows what a background job prints, while it prints it."""
