"""Two processes put their rows together as one process would hold them, gradients too."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from stemzoo.training.together import noise_like, own_of_first, rank_and_world, rows_of_all, total

PROGRAM = """
import sys
import torch
import torch.distributed as dist
from stemzoo.training.together import noise_like, own_of_first, rows_of_all, total

rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
whole = torch.arange(12.0).reshape(6, 2)
mine = whole[rank::2].clone().requires_grad_()
assert torch.equal(rows_of_all(mine), whole)
(rows_of_all(mine) ** 3).sum().backward()
assert torch.equal(mine.grad, 2 * 3 * whole[rank::2] ** 2)  # once for each process that has the sum
assert torch.equal(rows_of_all(torch.tensor([rank], dtype=torch.int8)), torch.tensor([0, 1], dtype=torch.int8))
assert torch.equal(total(torch.tensor([1.0 + rank])), torch.tensor([3.0]))
torch.manual_seed(3)
drawn = noise_like(mine)
torch.manual_seed(3)
assert torch.equal(drawn, torch.randn(6, 2)[rank::2])
assert own_of_first(5) == (3, 2)[rank]
"""


def test_two_processes_hold_what_one_would(tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen([*words, str(rank), str(tmp_path / "meet")], env=environment) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in started] == [0, 0]


def test_alone_nothing_changes() -> None:
    rows = torch.arange(6.0).reshape(3, 2)
    assert rank_and_world() == (0, 1) and own_of_first(5) == 5
    assert rows_of_all(rows) is rows and total(rows) is rows
    torch.manual_seed(0)
    drawn = noise_like(rows)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn(3, 2))
