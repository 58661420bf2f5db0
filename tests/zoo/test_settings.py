"""Which zoos are asked, in which order, and what is refused of how they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemzoo.errors import ModelError
from stemzoo.zoo.catalog import roots
from stemzoo.zoo.settings import WebRoot, named_roots, offline, web_roots


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMZOO_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("STEMZOO_OFFLINE", raising=False)
    monkeypatch.delenv("STEMZOO_ZOO", raising=False)


@pytest.mark.parametrize("separator", [":", ","])
def test_urls_and_directories_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: str) -> None:
    first, second = tmp_path / "a b", tmp_path / "c"
    first.mkdir()
    second.mkdir()
    named = [str(first), "https://zoo.example:8080/models/", "hf://org/repo@main", "http://[::1]:99/z", second.as_uri()]
    monkeypatch.setenv("STEMZOO_ZOO", separator.join(named))
    web = [WebRoot("https://zoo.example:8080/models"), WebRoot("hf://org/repo@main"), WebRoot("http://[::1]:99/z")]
    assert named_roots() == [first, *web, second]
    assert web_roots() == web
    assert roots()[:2] == [first, second]


def test_the_configuration_comes_after_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "config.toml").write_text(f'zoo = ["https://b.example", "{(tmp_path / "a").as_posix()}"]\noffline = true\n')
    monkeypatch.setenv("STEMZOO_ZOO", "https://a.example,https://b.example")
    assert named_roots() == [WebRoot("https://a.example"), WebRoot("https://b.example"), tmp_path / "a"]
    assert offline()
    monkeypatch.setenv("STEMZOO_OFFLINE", "0")
    assert not offline()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://zoo.example", "STEMZOO_ZOO names 'ftp://zoo.example'; wanted a directory, file:///"),
        ("https://me:secret@zoo.example/x", "wanted a directory"),
        ("https://", "wanted a directory"),
        ("file:///no/such/zoo", "STEMZOO_ZOO names /no/such/zoo, which is not a directory"),
    ],
)
def test_refused_roots(monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setenv("STEMZOO_ZOO", text)
    with pytest.raises(ModelError) as caught:
        named_roots()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zoos = []", r"config.toml: unknown key 'zoos'; known here: offline, zoo"),
        ("zoo = 'https://a.example'", r"config.toml: zoo is 'https://a.example'; wanted a list"),
        ("zoo = [", r"config.toml: not a readable configuration"),
    ],
)
def test_refused_configurations(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ModelError, match=message):
        named_roots()
