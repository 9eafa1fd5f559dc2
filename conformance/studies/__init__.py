"""Studies: the systems S1 to S11 and four questions about training, each run from certified parts by one command.

One study a file; a new one is a file here and a line below.
"""

from __future__ import annotations

from conformance.studies import (
    carousel,
    clipping,
    evolution,
    forget_gate,
    jacobians,
    line,
    minibatch,
    one_neuron,
    remedies,
    storage,
    text_windows,
    truncated_loop,
    unfolding,
    window_of_two,
)
from conformance.studies.base import Study

STUDIES: dict[str, Study] = {
    module.STUDY.id: module.STUDY
    for module in (
        one_neuron,
        text_windows,
        storage,
        unfolding,
        truncated_loop,
        minibatch,
        jacobians,
        carousel,
        forget_gate,
        remedies,
        window_of_two,
        clipping,
        line,
        evolution,
    )
}
"""Every study by its id, in the order in which they are listed."""
