"""Evaluation: ask many problems, score the answers by rules, and say how sure the rates are."""
