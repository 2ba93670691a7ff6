"""What a user asks for by a command, beside running a study and looking at it."""
