"""The embedded model: its file, card and questions, and under `recipe` how it is made."""
