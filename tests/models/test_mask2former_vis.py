from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmboxvis.models.vis import Mask2FormerVIS
from tests.models.tiny import (
    NUM_LAYERS,
    NUM_QUERIES,
    SIZE,
    TWO_OBJECTS,
    Instances,
    make_batch,
    make_boxvis,
    make_clip,
    make_mask2former_vis,
    make_sample,
)

MANY: Instances = {
    i: (i % 4, [(4 * i, 3 * i, 4 * i + 30, 3 * i + 25)] * 3) for i in range(NUM_QUERIES + 3)
}


def compute_loss(
    model: Mask2FormerVIS, instances: list[Instances], num_frames: int = 3
) -> dict[str, Tensor]:
    clips = [make_clip(num_frames, seed=i) for i in range(len(instances))]
    samples = [make_sample(i, num_frames, mask_size=SIZE) for i in instances]
    return model.train()(**make_batch(model, clips, samples), mode='loss')


@pytest.mark.parametrize(
    ('instances', 'num_frames'),
    [
        ([{}, {}], 3),
        ([{1: (0, [(8, 8, 60, 50)])}], 1),
        ([TWO_OBJECTS, {}], 3),
        ([MANY], 3),
    ],
    ids=['no object', 'one frame', 'object missing in a frame', 'more objects than queries'],
)
def test_loss_is_finite_and_reaches_every_parameter(
    instances: list[Instances], num_frames: int
) -> None:
    model = make_mask2former_vis()
    losses = compute_loss(model, instances, num_frames)
    assert losses.keys() == {
        f'{prefix}loss_{name}'
        for name in ('cls', 'mask', 'dice')
        for prefix in ('', *(f'd{i}.' for i in range(NUM_LAYERS)))
    }
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name


def test_clips_without_masks_are_an_error() -> None:
    model = make_mask2former_vis()
    batch = make_batch(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    with pytest.raises(ValueError, match='needs masks'):
        model.train()(**batch, mode='loss')


def test_checkpoints_go_from_one_model_to_the_other() -> None:
    boxvis, twin = make_boxvis().eval(), make_mask2former_vis().eval()
    frames = make_clip().float()
    missing, _ = twin.load_state_dict(boxvis.state_dict(), strict=False)
    assert not missing
    assert torch.equal(
        twin.predict_clip(frames)[-1].mask_logits, boxvis.predict_clip(frames)[-1].mask_logits
    )
    other = make_mask2former_vis()
    missing, unexpected = boxvis.load_state_dict(other.state_dict(), strict=False)
    assert not missing
    assert not unexpected
    for name, tensor in other.student.state_dict().items():
        assert torch.equal(boxvis.student.state_dict()[name], tensor)
        assert torch.equal(boxvis.teacher.state_dict()[name], tensor)
