"""`run.json`: every job that ran in a folder, with all that tells what it was and what it cost."""
