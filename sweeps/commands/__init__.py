"""Commands of `sweep` beside those in `sweeps/cli.py`, by what they are for: a command a function, arguments to calls."""
