"""Prompts out, verdicts in: the one place where judge texts are made and read. Knows no Ray."""
