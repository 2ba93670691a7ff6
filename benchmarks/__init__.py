"""What is timed, against what, and the recorded results. Nothing here is asserted by a test."""
