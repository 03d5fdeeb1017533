"""What this machine offers to thyme, found out by trying, and how to mend what is missing."""

from thyme.doctor.findings import Finding, State
from thyme.doctor.run import CHECKS, examine

__all__ = ["CHECKS", "Finding", "State", "examine"]
