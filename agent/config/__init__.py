"""Configuration: the schema, how it is loaded, and where things are kept."""
