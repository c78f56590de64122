"""What learns and what runs: algorithms, runners, jobs."""
