"""Ratings out of votes: the paper's Elo, Bradley-Terry, and what else moves votes. No database, no server."""
