"""This publication's comparison: its learners, settings, tables and figures."""

from benchmarks.grid.catalogue import Study
from benchmarks.study.learners import CROSSED, LEARNERS, REFERENCES
from benchmarks.study.settings import SEARCH, SETTINGS
from benchmarks.study.systems import SYSTEMS

STUDY = Study((*REFERENCES, *LEARNERS, *SYSTEMS, *CROSSED), SETTINGS, SEARCH)
MODULE = __name__
"""By which a cell, and the process that runs it, finds the study."""
