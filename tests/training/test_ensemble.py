"""Members of an ensemble differ, are trained once each, alone or together, and make one model that says how far they agree."""

from pathlib import Path

import numpy as np
import pytest

from stemzoo.errors import ModelError
from stemzoo.export.bundle import export_checkpoint
from stemzoo.quantise import quantise
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.pipeline import locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.training import load_for_export, train_ensemble
from stemzoo.types import Frames


def test_members_are_trained_as_tasks_and_collected_into_one_model_that_says_who_agrees(config, tmp_path):
    merged = config.model_copy(update={"classes": ("column",)})
    (second,) = train_ensemble(merged, tmp_path / "run", 2, 1, progress=False)
    assert second.folder.name == "member-1"
    with pytest.raises(ModelError, match=r"of 2 members 0 are not trained to the end"):
        load_for_export(tmp_path / "run")
    (first,) = train_ensemble(merged, tmp_path / "run", 2, progress=False)
    assert first.folder.name == "member-0"
    assert train_ensemble(merged, tmp_path / "run", 2, progress=False) == []
    card = export_checkpoint(tmp_path / "run", tmp_path / "zoo" / "pair" / "v1")
    assert card.id == "pair@1"
    assert card.parameters == 2 * sum(p.numel() for p in load_for_export(first.best)[1]["weights"].parameters())
    segmenter = Segmenter(Bundle.load(tmp_path / "zoo" / "pair" / "v1"))
    image = np.random.default_rng(0).poisson(20, (96, 96)).astype(np.float32)
    probability, members = segmenter.maps(image)
    assert members.shape == (2, 96, 96)
    np.testing.assert_allclose(members.mean(axis=0), probability[0], atol=1e-6)
    assert np.abs(members[0] - members[1]).max() > 1e-3
    analysis = locate(Frames(image[None], 0.2, "user", "noise"), segmenter)
    assert set(analysis.columns[0].agreement.tolist()) <= {0.0, 0.5, 1.0}
    assert analysis.quality[0].disputed is not None
    with pytest.raises(ModelError, match="pair@1 is an ensemble; wanted a single network, such as each of its members was exported from"):
        quantise(str(tmp_path / "zoo" / "pair" / "v1"), Path(config.datasets[0]), tmp_path / "int8")
    assert not (tmp_path / "int8").exists()


@pytest.mark.parametrize(
    ("size", "member", "said"), [(1, None, "--ensemble is 1; wanted 2 or more"), (3, 3, "--member is 3; wanted 0 to 2")]
)
def test_an_ensemble_that_cannot_be_is_refused(config, tmp_path, size, member, said):
    with pytest.raises(ModelError, match=said):
        train_ensemble(config, tmp_path / "run", size, member)


def test_a_folder_keeps_to_its_size(config, tmp_path):
    (tmp_path / "ensemble.json").write_text('{"members": 3}')
    with pytest.raises(ModelError, match="holds an ensemble of 3; pass --ensemble 3"):
        train_ensemble(config, tmp_path, 5, 0)
