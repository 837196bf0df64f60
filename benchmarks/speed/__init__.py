"""How fast environment and training are, and how much memory they take."""
