"""Every command in docs/ runs, in the order of its page, on small data: `--frames` and `--steps` are cut, nothing else is changed."""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from commandline import options

from stemzoo.cli import main

ROOT = Path(__file__).parents[1]
BUDGET = {"--frames": "3", "--steps": "3"}


def demo_frame():
    """A frame of Sr3Fe2O7 at 0.2 Å/px."""
    return np.ascontiguousarray(tifffile.imread(ROOT / "stemzoo" / "demo" / "sr3fe2o7_100.tif")[:288, :288])


def commands(page):
    """The command lines of a page: (environment, words)."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            environment = {}
            while words and "=" in words[0]:
                name, value = words.pop(0).split("=", 1)
                environment[name] = value
            if words:
                yield environment, words


def cut(words):
    """The same command on a small budget."""
    short = list(words)
    for option, value in BUDGET.items():
        if option in short:
            short[short.index(option) + 1] = value
    return short


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_every_command_of_the_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "cache"))
    tifffile.imwrite("frame.tif", demo_frame(), imagej=True, resolution=(50, 50), metadata={"unit": "nm"})
    Path("columns.csv").write_text("y_px,x_px\n20.5,30.5\n60.25,80.0\n")
    shutil.copy(ROOT / "tests" / "data" / "rutile.cif", "rutile.cif")
    shutil.copytree(ROOT / "model_cards" / "adf-unet", "my-zoo/adf-unet")
    for environment, words in commands(page):
        assert words[0] == "stemzoo", f"{page.name} shows {' '.join(words)}"
        with monkeypatch.context() as scope:
            for name, value in environment.items():
                scope.setenv(name, value)
            code = main(cut(words)[1:])
        printed = capsys.readouterr()
        assert code == 0, f"{' '.join(words)}\n{printed.err}"


PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "datasets").glob("*.md")]


def test_every_command_that_is_shown_exists_with_its_options():
    """Also those that no test runs: what needs a server, a cluster or hours, and what stands within a sentence."""
    known, seen = options(), 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        lines = [*"\n".join(fenced).splitlines(), *re.findall(r"^    (\S.*)$", text, re.MULTILINE), *re.findall(r"`([^`\n]+)`", text)]
        for said in (said for line in lines for said in re.findall(r"(?:^|[;&|] ?|srun |=\S+ )stemzoo ([a-z-][^;&|]*)", line)):
            words = said.split("#")[0].split()
            command = max((path for path in known if tuple(words[: len(path)]) == path), key=len)
            assert command, f"{page.name} shows stemzoo {said}"
            taken = {found[0] for word in words if (found := re.match(r"--[a-z-]+", word))}
            assert taken <= known[command], f"{page.name} shows stemzoo {said}"
            seen += 1
    assert seen > 80


def test_the_python_of_the_page_runs(tmp_path):
    """On a stack, in a process of its own, where warnings of Lightning's are as a user meets them; `steps` and `epochs` are cut."""
    stack = np.stack([demo_frame(), demo_frame()[:, ::-1]])
    tifffile.imwrite(tmp_path / "frame.tif", stack, imagej=True, resolution=(50, 50), metadata={"unit": "nm", "axes": "TYX"})
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE))
    for whole, cut in (("epochs=20", "epochs=1, min_steps=2"), ("steps=500", "steps=2, batch=2, workers=0, validation_patches=2")):
        assert whole in code
        code = code.replace(whole, cut)
    code += """
import numpy, torch
assert len(earlier.frames) == len(analysis.columns) == 2 and len(columns) > 400
assert len(angle) == len(encoding) == sum(map(len, analysis.columns)) == len(earlier.encoding)
assert numpy.isfinite(encoding.angle).sum() > 200
shown = torch.from_numpy(frames.frame(0)[None, None, :256, :256])
made = Segmenter(Bundle.load("my-zoo/my-unet/v1"))
found = SegmenterTask.load_from_checkpoint("segmenter.ckpt", weights_only=True).eval()(shown)
assert numpy.abs(made.probabilities(shown[0, 0].numpy()) - found.detach().numpy()[0]).max() < 1e-3
"""
    (tmp_path / "page.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_readme_names_commands_that_exist():
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^    make (\w+)", text, re.MULTILINE))
    assert targets == {"demo", "test"}
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)
    for link in re.findall(r"\]\(((?:docs/)?[\w.-]+)\)", text):
        assert (ROOT / link).exists(), link


def test_the_page_of_settings_is_that_of_the_code():
    """Each key, default and meaning of recipes, defects and trainings; `python scripts/settings_page.py` writes it."""
    spec = importlib.util.spec_from_file_location("settings_page", ROOT / "scripts" / "settings_page.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == script.page()
