"""What one run does: data -> model -> train -> evaluate -> track. Knows nothing of studies."""
