"""This publication's comparison: its learners, settings, tables and figures."""
