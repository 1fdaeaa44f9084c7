"""Online learning from outcomes during a run, and the warm start after a restart."""
