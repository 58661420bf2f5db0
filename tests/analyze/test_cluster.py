"""A Dask cluster as batch jobs and as local workers: what dask-jobqueue is asked for, and what it needs. SLURM's part is played."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stemzoo.errors import ModelError

dask = pytest.importorskip("dask")
pytest.importorskip("distributed")
pytest.importorskip("dask_jobqueue")

from stemzoo.analyze.cluster import LOCAL, _slurm  # noqa: E402

SITE = {
    "jobqueue.slurm.cores": 8,
    "jobqueue.slurm.processes": 8,
    "jobqueue.slurm.memory": "32 GB",
    "jobqueue.slurm.queue": "short",
    "jobqueue.slurm.walltime": "02:00:00",
    "jobqueue.slurm.job-extra-directives": ["--requeue"],
    "jobqueue.slurm.interface": "lo",
}
"""What a user's jobqueue.yaml may say."""

SBATCH = """#!/bin/sh
cp "$1" "{jobs}/$$.sh"
{run}
echo "Submitted batch job $!"
"""


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Put an sbatch and an scancel on the path; return where submitted scripts go. Its argument is what sbatch does with a script."""
    jobs, bin_folder = tmp_path / "jobs", tmp_path / "bin"
    jobs.mkdir()
    bin_folder.mkdir()

    def install(run: str) -> Path:
        scripts = {"sbatch": SBATCH.format(jobs=jobs, run=run), "scancel": '#!/bin/sh\nkill -- -"$1" 2>/dev/null\n'}
        for name, text in scripts.items():
            (bin_folder / name).write_text(text)
            (bin_folder / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
        return jobs

    with dask.config.set(SITE):
        yield install


def test_settings_of_local_workers_are_ones_that_dask_knows() -> None:
    for key in LOCAL:
        assert dask.config.get(key) is not None


def test_jobs_are_what_the_users_configuration_says(slurm: Callable[[str], Path]) -> None:
    jobs = slurm("sleep 0 &")
    started = _slurm(3)
    try:
        deadline = time.monotonic() + 120
        while len(list(jobs.glob("*.sh"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        script = started.job_script()
    finally:
        started.close()
    assert len(list(jobs.glob("*.sh"))) == 3
    for wanted in ("#SBATCH -p short", "#SBATCH -t 02:00:00", "#SBATCH --mem=30G", "#SBATCH --cpus-per-task=8", "#SBATCH --requeue"):
        assert wanted in script
    assert "--nworkers 8" in script and "--nthreads 1" in script


def test_a_missing_sbatch_is_said_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="no sbatch here"):
        _slurm(1)
