"""Options that several commands share, and how their values become the library's parameters."""
