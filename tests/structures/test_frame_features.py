from __future__ import annotations

import torch

from mmboxvis.structures import ClipPredictions, FrameFeatures


def make_features(num_frames: int) -> FrameFeatures:
    return FrameFeatures(
        mask_embeds=torch.rand(num_frames, 4, 8, 12),
        mask_features=torch.rand(num_frames, 4, 8, 12),
        multi_scale=tuple(torch.rand(num_frames, 4, side, side) for side in (1, 2, 4)),
    )


def parts_of(features: FrameFeatures) -> list[torch.Tensor]:
    return [features.mask_embeds, features.mask_features, *features.multi_scale]


def test_length_is_the_number_of_frames() -> None:
    assert [len(make_features(n)) for n in (0, 1, 5)] == [0, 1, 5]


def test_cat_keeps_the_order() -> None:
    parts = [make_features(n) for n in (1, 3, 1)]
    joined = FrameFeatures.cat(parts)
    assert len(joined) == 5
    for whole, *pieces in zip(parts_of(joined), *map(parts_of, parts), strict=True):
        assert torch.equal(whole, torch.cat(pieces))


def test_cat_of_one_part_copies_nothing() -> None:
    features = make_features(2)
    assert FrameFeatures.cat([features]) is features


def test_clip_takes_one_clip_out_of_a_batch() -> None:
    batch = ClipPredictions(
        cls_logits=torch.rand(2, 6, 5),
        mask_logits=torch.rand(2, 6, 3, 8, 12),
        embeds=torch.rand(2, 6, 4),
        mask_features=torch.rand(2, 3, 4, 8, 12),
    )
    clip = batch.clip(1)
    for name in ('cls_logits', 'mask_logits', 'embeds', 'mask_features'):
        assert torch.equal(getattr(clip, name), getattr(batch, name)[1])
