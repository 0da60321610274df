"""What the admin API says, and what the command line prints with --json: one shape for both."""
