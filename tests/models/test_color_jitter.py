from __future__ import annotations

import pytest
import torch

from mmboxvis.models.data_preprocessors import ColorJitter
from tests.models.test_boxvis import compute_loss
from tests.models.tiny import TWO_OBJECTS, make_boxvis, make_clip, make_sample


def test_black_frames_stay_black() -> None:
    assert not ColorJitter()(torch.zeros(2, 3, 3, 8, 8)).any()


def test_frames_of_a_clip_change_alike_and_clips_differ() -> None:
    frame = 255 * torch.rand(1, 1, 3, 8, 8)
    rgb = frame.expand(2, 3, -1, -1, -1)
    before = rgb.clone()
    out = ColorJitter()(rgb)
    assert torch.equal(rgb, before)
    torch.testing.assert_close(out[:, :1].expand_as(out), out)
    assert (out[0] - out[1]).abs().max() > 1
    assert out.min() >= 0
    assert out.max() <= 255


def test_nothing_to_change() -> None:
    rgb = 255 * torch.rand(1, 2, 3, 8, 8)
    torch.testing.assert_close(ColorJitter(0, 0, 0)(rgb), rgb)


def test_saturation_keeps_grey() -> None:
    grey = (255 * torch.rand(1, 1, 1, 8, 8)).expand(1, 1, 3, 8, 8)
    torch.testing.assert_close(ColorJitter(0, 1, 0)(grey), grey, atol=1e-3, rtol=1e-4)


def test_balance_tints_grey() -> None:
    tinted = ColorJitter(0, 0, 0.1)(torch.full((1, 2, 3, 8, 8), 100.0))
    red, green, blue = tinted[0, 0, :, 0, 0].tolist()
    assert len({round(value) for value in (red, green, blue)}) == 3
    assert min(red, green, blue) >= 90 and max(red, green, blue) <= 110


@pytest.mark.parametrize('options', [dict(brightness=-0.1), dict(balance=1.5)])
def test_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r'must lie in \[0, 1\]'):
        ColorJitter(**options)


def test_only_the_student_sees_it_and_padding_stays() -> None:
    model = make_boxvis(student_view=dict(type='ColorJitter'))
    seen: dict[str, list[torch.Tensor]] = {'student': [], 'teacher': []}
    for name, frames in seen.items():
        network = getattr(model, name)
        network.register_forward_pre_hook(lambda _, args, frames=frames: frames.append(args[0]))
    clips = [make_clip(size=(40, 50)), make_clip()]
    compute_loss(model, clips, [make_sample({}), make_sample(TWO_OBJECTS)])
    (student,), (teacher,) = seen['student'], seen['teacher']
    assert (student - teacher).abs().max() > 0.05
    padding = teacher[0, :, :, 40:]
    assert not padding.any()
    assert not student[0, :, :, 40:].any()
