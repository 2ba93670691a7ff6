"""What a team runs on more than one machine, and the same parts on loopback."""
