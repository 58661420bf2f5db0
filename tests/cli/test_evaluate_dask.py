"""evaluate on a cluster gives the scores of one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemzoo.analyze.many import Here, LostError, collect
from stemzoo.errors import FrameError
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame


@pytest.mark.slow
def test_evaluate_on_two_workers_gives_what_one_process_gives(run: Callable[..., Any], truth: np.ndarray, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    with DatasetWriter(tmp_path / "d.h5", recipe="{}", material="x", seed=0) as writer:
        for seed in range(10):
            y, x = np.mgrid[:96, :112]
            image = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 8) for a, b in truth) + np.random.default_rng(seed).normal(0, 0.02, y.shape)
            writer.add(LabelledFrame(np.asarray(image, dtype=np.float32), truth, np.zeros(len(truth), dtype=np.int64), ("A",), 0.2))
    here, there = (run("evaluate", "blob", tmp_path / "d.h5", "--json", *more) for more in ((), ("--dask", "local:2")))
    assert here.code == there.code == 0, there.err
    assert here.json["scores"] == there.json["scores"]


def test_calls_come_back_in_order_and_a_lost_one_is_tried_again() -> None:
    class Unlucky(Here):
        lost = 1

        def next(self) -> tuple[Any, Any]:
            job, result = super().next()
            if job[0] == 2 and self.lost:
                self.lost -= 1
                return job, LostError("gone")
            return job, result

    def double(number: int, models: object, progress: object) -> int:
        if number < 0:
            raise FrameError("negative")
        return 2 * number

    pool = Unlucky(None)  # type: ignore[arg-type]
    assert collect(pool, double, [(k,) for k in range(5)]) == [0, 2, 4, 6, 8]
    with pytest.raises(FrameError, match="negative"):
        collect(pool, double, [(1,), (-1,)])
