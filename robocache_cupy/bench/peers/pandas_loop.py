"""pandas.merge_asof, for each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Call, Case


def asof(case: Case) -> Call:
    import pandas as pd

    def one(src: Any, tgt: Any) -> Any:
        # Both sides must ascend: sorted before, and put back after.
        order = np.argsort(tgt, kind="stable")
        left = pd.DataFrame({"t": tgt[order]})
        right = pd.DataFrame({"t": src, "at": np.arange(len(src), dtype=np.int32)})
        found = pd.merge_asof(left, right, on="t")["at"].fillna(-1).to_numpy(np.int32)
        out = np.empty_like(found)
        out[order] = found
        return out

    return lambda src, tgt: np.stack([one(s, t) for s, t in zip(src, tgt, strict=True)])
