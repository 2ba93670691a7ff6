"""Figures of data sets, runs and trained networks. Each function returns a matplotlib figure; who wants it saves it.

`pipelines/execute.py` draws those of a run, `sweeps/running/supervisor.py` those of a study, `sweeps/tasks/explain.py` those of a
network. Interactive plots for the report are in `sweeps/results/plots.py`.
"""
