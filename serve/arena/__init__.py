"""The Judge Arena (§3.3): two hidden judges, one vote, then their names; ratings from the votes alone."""
