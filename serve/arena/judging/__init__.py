"""Judges of any kind behind one call, and the battle of two of them."""
