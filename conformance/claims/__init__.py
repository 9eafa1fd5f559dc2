"""The claims C01 to C34 of five public texts on BPTT, each decided by the oracle. One group of claims a file."""

from __future__ import annotations

from conformance.claims import lstm, neuron, norms, shared, training
from conformance.claims.base import Claim

CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in sorted(
        (*lstm.CLAIMS, *neuron.CLAIMS, *norms.CLAIMS, *shared.CLAIMS, *training.CLAIMS), key=lambda claim: claim.id
    )
}
