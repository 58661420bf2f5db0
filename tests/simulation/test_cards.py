"""Dataset cards: one beside each recipe, under the recipe's own title, saying what is truth and what is missing."""

import re
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "datasets"
RECIPES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_has_its_card(recipe):
    card = recipe.with_suffix(".md").read_text(encoding="utf-8")
    assert card.splitlines()[0] == f"# {tomllib.loads(recipe.read_text(encoding='utf-8'))['title']}"
    assert "- **Truth**: " in card and "- **Not in it**: " in card


def test_no_card_lacks_its_recipe_and_the_page_names_every_recipe():
    assert {path.stem for path in FOLDER.glob("*.md")} == {path.stem for path in RECIPES}
    page = (FOLDER.parent / "docs" / "datasets.md").read_text(encoding="utf-8")
    assert {path.stem for path in RECIPES} <= set(re.findall(r"`(\w+)`", page))
