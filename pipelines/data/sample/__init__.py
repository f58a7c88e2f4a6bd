"""The packaged sample set: short judge examples whose labels are true by construction (README.md)."""
