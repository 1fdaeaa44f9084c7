"""What surrounds a run that goes on for months: its pulse, its figures, and what the machine's own keeper is told."""
