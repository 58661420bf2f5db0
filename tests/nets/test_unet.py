"""The segmentation network: what its normalisation forgets, and what its shape promises."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stemzoo.errors import ShapeError
from stemzoo.nets.unet import LocalContrast, SegmenterGraph, UNet


def _frame(seed=0, side=128):
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    lattice = torch.cos(0.6 * y) * torch.cos(0.5 * x)
    return (20 + 10 * lattice + torch.randn(side, side, generator=generator))[None, None]


def test_gain_and_offset_drop_out():
    contrast = LocalContrast()
    assert torch.allclose(contrast(_frame()), contrast(1e4 * _frame() + 3e6), atol=2e-2)


def test_no_single_pixel_moves_the_contrast():
    hot = _frame().clone()
    hot[0, 0, 60, 60] = 1e6
    difference = (LocalContrast()(hot) - LocalContrast()(_frame())).abs()
    difference[0, 0, 59:62, 59:62] = 0
    assert float(difference.max()) < 0.05


def test_a_brighter_half_does_not_hide_the_other():
    frame = _frame(side=256)
    stepped = frame.clone()
    stepped[..., 128:] *= 20
    quiet = LocalContrast()(stepped)[..., 8:64]
    assert float(quiet.std()) == pytest.approx(float(LocalContrast()(frame)[..., 8:64].std()), rel=0.05)


@pytest.mark.parametrize(("widths", "fold", "depths"), [((8, 16), 2, None), ((8, 12, 16, 16), 2, None), ((8, 12, 16), 4, (2, 1, 1))])
@pytest.mark.parametrize("classes", [1, 3])
def test_shapes_hold_for_every_size_the_stride_allows(widths, fold, depths, classes):
    net = UNet(classes, widths, fold, depths).eval()
    for height, width in ((net.stride_px * 2, net.stride_px * 5), (64, 48)):
        logits = net(torch.rand(2, 1, height, width))
        assert logits.shape == (2, classes + 1, height, width)
    probability = SegmenterGraph(net)(torch.rand(1, 1, 64, 64))
    assert probability.shape == (1, classes, 64, 64)
    assert 0 <= float(probability.detach().min()) <= float(probability.detach().sum(1).max()) <= 1


def test_the_sigmoid_of_one_class_is_the_softmax_of_two():
    net = UNet(1, (8, 16)).eval()
    with torch.no_grad():
        torch.testing.assert_close(SegmenterGraph(net)(_frame()), torch.softmax(net(_frame()), dim=1)[:, 1:])


def test_separable_convolutions_take_a_seventh_of_the_arithmetic():
    works = []
    for separable in (False, True):
        net = UNet(1, (16, 32, 48), 2, None, separable).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            assert net(_frame()).shape == (1, 2, 128, 128)
        works.append(counter.get_total_flops())
    assert 5 < works[0] / works[1] < 9


def test_depths_of_other_levels_are_refused():
    with pytest.raises(ShapeError, match=r"\(2,\) name 1 levels and widths \(8, 16\) 2"):
        UNet(1, (8, 16), 2, (2,))


@pytest.mark.parametrize("fold", [2, 4])
def test_what_lies_beyond_the_receptive_field_hardly_bears(fold):
    torch.manual_seed(0)
    net = UNet(1, (8, 16, 16), fold).eval()
    reach = net.receptive_px
    side = 16 * ((2 * reach + 40) // 16 + 2)
    a = _frame(1, side)
    b = a.clone()
    b[..., :24] += torch.randn_like(b[..., :24])
    # Frames differ in their mean too, which the local mean takes away again.
    difference = (net(a) - net(b)).abs().detach()
    assert float(difference[..., 24 + reach :].max()) < 1e-3 * float(difference.max())
