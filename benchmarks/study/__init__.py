"""This publication's comparison: its learners, settings, tables and figures."""

from benchmarks.grid.catalogue import Study
from benchmarks.study.learners import CROSSED, LEARNERS, REFERENCES, SYSTEMS
from benchmarks.study.settings import SEARCH, SETTINGS

STUDY = Study((*REFERENCES, *LEARNERS, *SYSTEMS, *CROSSED), SETTINGS, SEARCH)
MODULE = __name__
"""By which a cell, and the process that runs it, finds the study."""
