"""Analysis of the owner's files: the model chooses from a catalogue, tables answer, and every number is checked."""
