"""The real program, killed at every boundary and resumed."""
