"""What outcomes teach while a run goes on, and the warm start after a restart."""
