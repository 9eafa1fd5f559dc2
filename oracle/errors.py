"""What the oracle says when it will not answer."""


class PrecisionExhausted(ArithmeticError):
    """The question is not decided at the highest precision allowed: no answer, rather than a guess."""


class EnvironmentUnsound(RuntimeError):
    """The process's floating point was changed (rounding mode, flush-to-zero): nothing here can be trusted."""


class OracleDisagrees(ArithmeticError):
    """Two enclosures of one value have no number in common: one of them is wrong."""
