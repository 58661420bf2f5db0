"""Every command in docs/ runs, in the order of its page, on small data: `--frames` and `--steps` are cut, nothing else is changed."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemzoo.cli import main

ROOT = Path(__file__).parents[1]
BUDGET = {"--frames": "3", "--steps": "3"}


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
    frame = tifffile.imread(ROOT / "stemzoo" / "demo" / "sr3fe2o7_100.tif")[:288, :288]
    tifffile.imwrite("frame.tif", np.ascontiguousarray(frame), imagej=True, resolution=(50, 50), metadata={"unit": "nm"})
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


def test_the_readme_names_commands_that_exist():
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^    make (\w+)", text, re.MULTILINE))
    assert targets == {"demo", "test"}
    assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)
    for link in re.findall(r"\]\(((?:docs/)?[\w.-]+)\)", text):
        assert (ROOT / link).exists(), link
