"""The tree search: policies, stops and the walk, generic in what is searched. Pure; knows no model and no market."""
