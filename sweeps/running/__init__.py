"""Who trains what, and when: the parent, its workers, and what they do when something goes wrong."""
