"""A file that is no adapter."""

VALUE = 3
