"""Evaluation: ask many problems, score the answers, and say how sure the figures are and what tools were worth."""
