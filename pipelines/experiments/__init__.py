"""What is asked of the system beside its three jobs, such as the map of the curated set (Figure 4)."""
