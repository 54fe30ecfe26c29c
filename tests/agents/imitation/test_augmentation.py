from __future__ import annotations

import torch

from cadenza.agents.imitation.augmentation import augmented, shifted, tinted


def pictures(count: int = 8) -> torch.Tensor:
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    return picture.repeat(count, 1, 1, 1)


def test_two_equal_pictures_of_a_batch_become_different() -> None:
    for change in (shifted, tinted, augmented):
        found = change(pictures(), torch.Generator().manual_seed(0))
        different = [not torch.equal(found[0], other) for other in found[1:]]
        assert any(different), change.__name__


def test_shape_range_and_seed() -> None:
    one, two = (augmented(pictures(), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (8, 3, 32, 32)
    assert float(one.min()) >= 0.0
    assert float(one.max()) <= 1.0
    assert not torch.equal(one, augmented(pictures(), torch.Generator().manual_seed(6)))


def test_a_shift_moves_the_picture_whole() -> None:
    """A dot stays one dot, at most two pixels (6 % of 32) from where it was."""
    picture = torch.zeros(50, 3, 32, 32)
    picture[:, :, 16, 10] = 1.0
    found = shifted(picture, torch.Generator().manual_seed(0))
    assert (found.sum((1, 2, 3)) == 3.0).all()
    places = found[:, 0].flatten(1).argmax(1)
    rows, columns = places // 32, places % 32
    assert set((rows - 16).tolist()) == set((columns - 10).tolist()) == {-2, -1, 0, 1, 2}
