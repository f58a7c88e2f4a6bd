"""The jobs: thin scripts for `ray job submit`, which the program `openselene` also runs."""
