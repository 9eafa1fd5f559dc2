"""The list of vectors that were published, with a digest of each problem: an id keeps its problem for good.

python -m tests.deep.vector_ids        adds what is new; what is in the list already is left as it is
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from bptt.files import to_bytes
from conformance.vectors.selection import selection
from tests.deep.agreement import write

IDS = Path(__file__).parents[1] / "data" / "vector_ids.txt"


def listed(ids: Iterable[str]) -> dict[str, str]:
    """Id to digest, for those that there are."""
    vectors = selection()
    return {i: hashlib.sha256(to_bytes(vectors[i].problem)).hexdigest()[:16] for i in ids if i in vectors}


def main() -> None:
    """Add what is new."""
    lines = IDS.read_text(encoding="utf-8").splitlines() if IDS.is_file() else []
    known = dict(line.split() for line in lines)
    added = {i: digest for i, digest in listed(selection()).items() if i not in known}
    known |= added
    IDS.parent.mkdir(exist_ok=True)
    IDS.write_text("".join(f"{i} {digest}\n" for i, digest in sorted(known.items())), encoding="utf-8")
    write(f"{len(added)} added, {len(known)} in all")


if __name__ == "__main__":
    main()
