"""What is missing for a task is one sentence; what is broken in stemzoo itself stays a fault."""

from __future__ import annotations

import re

import pytest

from stemzoo.errors import ModelError, ReadError, needs_extra


def test_a_missing_extra_is_one_sentence() -> None:
    with (
        pytest.raises(ReadError, match=r"^reading a\.xyz needs no_such_package, which is not installed; pip install 'stemzoo\[io\]'$"),
        needs_extra("io", "reading a.xyz", ReadError),
    ):
        import no_such_package  # noqa: F401


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (
            ModuleNotFoundError("Neither `a` nor `b` is\navailable."),
            "a package, which cannot be imported (Neither `a` nor `b` is available.)",
        ),
        (
            ImportError("cannot import name 'New' from 'old'", name="old"),
            "old, which cannot be imported (cannot import name 'New' from 'old')",
        ),
    ],
)
def test_what_is_there_but_does_not_do_is_not_called_missing(raised: ImportError, said: str) -> None:
    with (
        pytest.raises(ModelError, match=re.escape(f"training needs {said}; pip install 'stemzoo[train]'")),
        needs_extra("train", "training"),
    ):
        raise raised


def test_a_broken_import_within_stemzoo_is_a_fault() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"stemzoo\.no_such_module"), needs_extra("train", "training"):
        import stemzoo.no_such_module  # noqa: F401
