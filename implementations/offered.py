"""Whether an adapter offers what a problem asks for, by its table SUPPORTS; for those that check it all at once."""

from typing import Any


def require(problem: Any, supports: dict[str, Any]) -> None:
    """Raise NotImplementedError, naming the field, for what the table does not list."""
    asked = [
        ("cells", problem.cell),
        ("readouts", problem.readout),
        ("losses", problem.loss.kind),
        ("truncations", problem.truncation.kind),
        ("dtypes", problem.dtype),
    ]
    if problem.cell == "elman":
        asked.append(("activations", problem.activation))
    for field, name in asked:
        if name not in supports[field]:
            message = f"{field}: {name!r}; known: {', '.join(supports[field])}"
            raise NotImplementedError(message)
    if problem.truncation.kind == "cec" and problem.cell != "lstm_1997":
        message = f"truncation 'cec' for {problem.cell!r}; it is defined for 'lstm_1997' only"
        raise NotImplementedError(message)
