"""The commands and scripts behind every published number."""
