"""The truth: a problem's exact solution, how sure it is, and how far rounding may lead an implementation from it."""
