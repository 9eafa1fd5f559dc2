"""Plan, run, verdict, diagnosis, reports and the command line."""
