"""What is searched: no store is asked here."""
