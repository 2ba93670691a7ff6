"""A fault campaign: real sweeps, broken in every way at random instants, then held against docs/reliability.md."""
