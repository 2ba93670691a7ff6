"""Figures of data sets, runs and trained networks. Each function returns a matplotlib figure; who wants it saves it."""
