"""Views of a trajectory: on a terminal as it happens, and as one self-contained HTML page."""
