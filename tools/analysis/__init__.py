"""Tables of the owner's files: read, described, and asked with a fixed catalogue of operations. Needs the extra
`analysis`."""
