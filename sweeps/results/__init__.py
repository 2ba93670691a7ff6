"""What came of it: data frames, choices, verdicts, the leaderboard and the report."""
