"""Many trainings by one command: what to run, running it, and one table of what came out."""
