"""Writing finished records for those who train on them, and what is checked before."""
