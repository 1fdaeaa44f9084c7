"""Online learning from outcomes while a run goes on, and the warm start after a restart."""
