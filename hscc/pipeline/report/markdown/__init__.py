"""Figures in README.md and docs/: blocks that are printed from the committed reports, never typed."""
