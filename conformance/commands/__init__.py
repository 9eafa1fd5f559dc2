"""The subcommands, one a file: each has `configure(parser)` and `main(arguments) -> exit status`."""
