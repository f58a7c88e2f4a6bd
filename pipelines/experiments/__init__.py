"""What is asked of the system beside its three jobs: the map of the curated set (Figure 4)."""
