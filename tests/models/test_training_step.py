"""The step that speed is compared with is the same step."""

from __future__ import annotations

import torch

from tests.models.tiny import (
    TWO_OBJECTS,
    criterion_cfg,
    make_batch,
    make_boxvis,
    make_clip,
    make_sample,
    network_cfg,
)
from tests.reference.training_step import PlainStep


def test_straightforward_step_has_the_same_losses():
    cfg = dict(network=network_cfg())
    model = make_boxvis(cfg['network'], criterion=criterion_cfg())
    with torch.no_grad():
        for name, parameter in model.student.named_parameters():
            if name.endswith('sampling_offsets.bias'):
                parameter += 0.3  # at first samples lie on cell centres, where slopes jump
    # no pseudo mask is good enough: what is left does not depend on random points
    model.confidence = lambda progress: 2.0
    model.criterion.assigner.max_confidence = 2.0
    batch = make_batch(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    losses = model(**batch, mode='loss')
    plain = PlainStep(model, cfg, num_frames=3)
    expected = plain.losses(batch)
    last = len(model.student.track_head.transformer_decoder.layers)
    for name, value in expected.items():
        own = losses[name.removeprefix(f'd{last}.')]
        torch.testing.assert_close(own, value, atol=1e-4, rtol=1e-4, msg=name)
    sum(expected.values()).backward()
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    grads = {name: p.grad for name, p in model.student.named_parameters()}
    for name, parameter in plain.student.named_parameters():
        torch.testing.assert_close(grads[name], parameter.grad, atol=1e-4, rtol=1e-3, msg=name)
