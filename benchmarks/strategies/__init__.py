"""What a strategy spends until a configuration is good enough: searches replayed over recorded learning curves, and real ones."""
