"""Time and memory of whole volumes against their size, see README.md."""
