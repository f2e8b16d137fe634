from __future__ import annotations

import pytest
import torch

from mmboxvis.models.data_preprocessors import ClipDataPreprocessor

MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def random_clip(num_frames: int, height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (num_frames, 3, height, width), dtype=torch.uint8)


def test_black_clip_without_objects() -> None:
    preprocessor = ClipDataPreprocessor()
    clip = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    batch = preprocessor(dict(inputs=[clip], data_samples=['sample']), training=True)
    assert not batch['rgb'].any()
    torch.testing.assert_close(batch['inputs'][0, 0], (-MEAN / STD).expand(3, 32, 32))
    assert batch['data_samples'] == ['sample']


def test_normalises_rgb_and_pads_right_and_bottom() -> None:
    clips = [random_clip(2, 40, 90), random_clip(2, 64, 33)]
    batch = ClipDataPreprocessor()(dict(inputs=clips), training=True)
    assert batch['inputs'].shape == batch['rgb'].shape == (2, 2, 3, 64, 96)
    for i, clip in enumerate(clips):
        height, width = clip.shape[-2:]
        rgb = clip[:, [2, 1, 0]].float()
        assert torch.equal(batch['rgb'][i, ..., :height, :width], rgb)
        torch.testing.assert_close(batch['inputs'][i, ..., :height, :width], (rgb - MEAN) / STD)
        for name in ('inputs', 'rgb'):
            assert not batch[name][i, ..., height:, :].any()
            assert not batch[name][i, ..., width:].any()


def test_rgb_frames_are_not_flipped() -> None:
    clip = random_clip(1, 32, 32)
    batch = ClipDataPreprocessor(bgr_to_rgb=False)(dict(inputs=[clip]), training=True)
    assert torch.equal(batch['rgb'][0], clip.float())


@pytest.mark.parametrize(('training', 'keep_rgb'), [(False, True), (True, False)])
def test_rgb_is_for_training_only_and_can_be_left_out(training: bool, keep_rgb: bool) -> None:
    preprocessor = ClipDataPreprocessor(keep_rgb=keep_rgb)
    assert 'rgb' not in preprocessor(dict(inputs=[random_clip(1, 32, 32)]), training)


def test_clips_of_different_length_are_an_error() -> None:
    clips = [random_clip(1, 32, 32), random_clip(3, 32, 32)]
    with pytest.raises(ValueError, match=r'\[1, 3\] frames'):
        ClipDataPreprocessor()(dict(inputs=clips), training=True)


def test_lazy_videos_pass_through_unread() -> None:
    class Video:
        def __getitem__(self, index: int) -> None:
            raise AssertionError('a frame was read')

    data = dict(inputs=[Video()], data_samples=['sample'])
    assert ClipDataPreprocessor()(data, training=False) is data


def test_inputs_are_not_edited() -> None:
    clip = random_clip(2, 40, 50)
    data = dict(inputs=[clip], data_samples=None)
    before = clip.clone()
    ClipDataPreprocessor()(data, training=True)['inputs'].zero_()
    assert data['inputs'][0] is clip
    assert torch.equal(clip, before)


def test_a_single_frame_is_treated_as_in_a_clip() -> None:
    preprocessor = ClipDataPreprocessor()
    clip = random_clip(1, 40, 50)
    alone = preprocessor.frame(clip[0])
    assert alone.shape == (1, 3, 64, 64)
    assert torch.equal(alone, preprocessor(dict(inputs=[clip]))['inputs'][0])


def test_padded_size() -> None:
    preprocessor = ClipDataPreprocessor(pad_size_divisor=32)
    assert preprocessor.padded_size(32, 33) == (32, 64)
    assert ClipDataPreprocessor(pad_size_divisor=1).padded_size(31, 7) == (31, 7)


def test_constants_stay_out_of_checkpoints() -> None:
    assert not ClipDataPreprocessor().state_dict()
