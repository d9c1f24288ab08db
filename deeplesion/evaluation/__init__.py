"""Evaluation by free-response ROC (FROC)."""
