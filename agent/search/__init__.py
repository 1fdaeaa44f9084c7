"""Generic tree search: policies, stop rules and the search loop. Pure; depends on no model and no market."""
