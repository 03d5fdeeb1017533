"""How much memory and time a run needs, reckoned before it starts and checked against what it took."""
