from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmboxvis.models.heads import criteria
from mmboxvis.models.losses import pseudo_mask_loss
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.registry import MODELS
from mmboxvis.structures import ClipPredictions, ClipTargets, PseudoMasks
from tests.models.tiny import (
    NUM_CLASSES,
    NUM_QUERIES,
    SIZE,
    TWO_OBJECTS,
    Instances,
    criterion_cfg,
    make_clip,
    make_sample,
)

NUM_PREDICTIONS, NUM_FRAMES = 3, 3
ONE_OBJECT: Instances = {4: (0, [(30, 20, 70, 40)] * 3)}
MANY: Instances = {
    i: (i % 4, [(4 * i, 3 * i, 4 * i + 30, 3 * i + 25)] * 3) for i in range(NUM_QUERIES + 2)
}
BATCHES = {
    'no object': [{}, {}],
    'one clip': [TWO_OBJECTS],
    'a clip without objects': [TWO_OBJECTS, {}, ONE_OBJECT],
    'more objects than queries': [MANY, ONE_OBJECT],
}


def make_predictions(num_clips: int) -> list[ClipPredictions]:
    height, width = SIZE[0] // 4, SIZE[1] // 4
    return [
        ClipPredictions(
            cls_logits=torch.randn(num_clips, NUM_QUERIES, NUM_CLASSES + 1).requires_grad_(),
            mask_logits=(
                3 * torch.randn(num_clips, NUM_QUERIES, NUM_FRAMES, height, width)
            ).requires_grad_(),
            embeds=torch.randn(num_clips, NUM_QUERIES, 8),
            mask_features=torch.rand(num_clips, NUM_FRAMES, 8, height, width),
        )
        for _ in range(NUM_PREDICTIONS)
    ]


def make_targets(instances: Sequence[Instances]) -> list[ClipTargets]:
    return [ClipTargets.from_data_sample(make_sample(i, mask_size=SIZE), SIZE) for i in instances]


def make_pseudo(targets: Sequence[ClipTargets]) -> list[PseudoMasks]:
    return [
        PseudoMasks(
            query_inds=torch.arange(len(target)).where(torch.arange(len(target)) < NUM_QUERIES, -1),
            scores=torch.rand(len(target)),
            masks=target.box_masks * torch.rand_like(target.box_masks),
        )
        for target in targets
    ]


def without_box_terms(**kwargs: Any) -> Any:
    return MODELS.build(criterion_cfg(loss_pair=None, loss_pseudo=None, **kwargs))


def matches_of(
    criterion: nn.Module,
    predictions: list[ClipPredictions],
    targets: list[ClipTargets],
    layer: int,
    clip: int,
) -> list[tuple[int, int]]:
    prediction = predictions[layer].clip(clip)
    ((queries, gts),) = criterion.assigner.assign(
        prediction.cls_logits.detach()[None],
        prediction.mask_logits.detach()[None],
        targets[clip],
    )
    return list(zip(queries.tolist(), gts.tolist(), strict=True))


def slow_cls_loss(
    prediction: ClipPredictions,
    targets: list[ClipTargets],
    matches: list[list[tuple[int, int]]],
) -> Tensor:
    total, weights = torch.zeros(()), 0.0
    for clip, target in enumerate(targets):
        label_of = {query: int(target.labels[gt]) for query, gt in matches[clip]}
        for query in range(NUM_QUERIES):
            label = label_of.get(query, NUM_CLASSES)
            weight = 0.1 if label == NUM_CLASSES else 1.0
            total = total - weight * prediction.cls_logits[clip, query].log_softmax(0)[label]
            weights += weight
    return 2 * total / weights


def slow_proj_loss(
    prediction: ClipPredictions,
    targets: list[ClipTargets],
    matches: list[list[tuple[int, int]]],
) -> Tensor:
    total = torch.zeros(())
    for clip, target in enumerate(targets):
        for query, gt in matches[clip]:
            logits = prediction.mask_logits[clip, query][None]
            probs = F.interpolate(logits, SIZE, mode='bilinear')[0].sigmoid()
            for axis in (1, 2):
                p = probs.amax(axis).flatten()
                q = target.box_masks[gt].amax(axis).flatten()
                total = total + 1 - 2 * (p * q).sum() / ((p * p).sum() + (q * q).sum())
    return 5 * total / max(sum(len(target) for target in targets), 1)


@pytest.mark.parametrize('batch', list(BATCHES))
def test_class_and_projection_agree_with_loops(batch: str) -> None:
    targets = make_targets(BATCHES[batch])
    predictions = make_predictions(len(targets))
    criterion = without_box_terms()
    losses = criterion(predictions, targets, None, None, 0.5)
    assert len(losses) == 2 * NUM_PREDICTIONS + 1 and 'matches_changed' in losses
    for layer, prediction in enumerate(predictions):
        prefix = '' if layer == NUM_PREDICTIONS - 1 else f'd{layer}.'
        matches = [
            matches_of(criterion, predictions, targets, layer, clip) for clip in range(len(targets))
        ]
        slow = dict(
            loss_cls=slow_cls_loss(prediction, targets, matches),
            loss_proj=slow_proj_loss(prediction, targets, matches),
        )
        for name, wanted in slow.items():
            got = losses[prefix + name]
            torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
            logits = prediction.cls_logits if name == 'loss_cls' else prediction.mask_logits
            if wanted.requires_grad:
                torch.testing.assert_close(
                    torch.autograd.grad(got, logits, retain_graph=True)[0],
                    torch.autograd.grad(wanted, logits)[0],
                    atol=1e-5,
                    rtol=1e-4,
                )


def test_every_layer_is_matched_on_its_own() -> None:
    targets = make_targets([TWO_OBJECTS])
    predictions = make_predictions(1)
    criterion = without_box_terms()
    alone = criterion(predictions[:1], targets, None, None, 0.5)
    together = criterion(predictions, targets, None, None, 0.5)
    torch.testing.assert_close(together['d0.loss_proj'], alone['loss_proj'])
    torch.testing.assert_close(together['d0.loss_cls'], alone['loss_cls'])


def test_weights_can_be_changed() -> None:
    targets = make_targets([TWO_OBJECTS])
    predictions = make_predictions(1)
    plain = without_box_terms()(predictions, targets, None, None, 0.5)
    double = without_box_terms(cls_weight=4.0)(predictions, targets, None, None, 0.5)
    torch.testing.assert_close(double['loss_cls'], 2 * plain['loss_cls'])


def test_sums_are_divided_by_means_over_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    targets = make_targets([TWO_OBJECTS])
    predictions = make_predictions(1)
    criterion = without_box_terms()
    alone = criterion(predictions, targets, None, None, 0.5)
    # the other process has 6 instances, so the mean is 4 and not 2, and as many more queries
    other = torch.tensor([6.0, 5.0, 0.0])
    monkeypatch.setattr(criteria, 'reduce_mean', lambda counts: (counts + other) / 2)
    shared = criterion(predictions, targets, None, None, 0.5)
    torch.testing.assert_close(shared['loss_proj'], alone['loss_proj'] / 2)
    weight = 2 + 0.1 * (NUM_QUERIES - 2)
    torch.testing.assert_close(shared['loss_cls'], alone['loss_cls'] * weight / ((weight + 5) / 2))
    criterion.local_averages = True
    released = criterion(predictions, targets, None, None, 0.5)
    torch.testing.assert_close(released['loss_cls'], alone['loss_cls'])
    torch.testing.assert_close(released['loss_proj'], shared['loss_proj'])


@pytest.mark.parametrize(('local_averages', 'factor'), [(False, 2), (True, 1)])
def test_the_released_program_divides_by_one_instance_at_least(
    monkeypatch: pytest.MonkeyPatch, local_averages: bool, factor: int
) -> None:
    """One instance in two processes; the mean of half an instance weighs it double here."""
    targets = make_targets([ONE_OBJECT])
    predictions = make_predictions(1)
    criterion = without_box_terms(local_averages=local_averages)
    alone = criterion(predictions, targets, None, None, 0.5)
    monkeypatch.setattr(criteria, 'reduce_mean', lambda counts: counts / 2)
    shared = criterion(predictions, targets, None, None, 0.5)
    torch.testing.assert_close(shared['loss_proj'], factor * alone['loss_proj'])


def test_pseudo_masks_weigh_as_much_as_their_scores() -> None:
    targets, predictions = make_targets([TWO_OBJECTS]), make_predictions(1)
    (pseudo,) = make_pseudo(targets)
    sure = dataclasses.replace(pseudo, scores=torch.ones(2))
    unsure = dataclasses.replace(pseudo, scores=torch.full((2,), 0.1))
    losses = {}
    for name, clip, weigh in (
        ('all', sure, False),
        ('none', unsure, False),
        ('tenth', unsure, True),
    ):
        torch.manual_seed(0)
        criterion = MODELS.build(criterion_cfg(loss_pair=None, weigh_pseudo_masks=weigh))
        # the teacher's scores also matter in matching: fix it to tell the loss from it
        criterion._match = lambda *_: [[(torch.arange(2), torch.arange(2))]] * NUM_PREDICTIONS
        losses[name] = criterion(predictions, targets, [clip], None, 0.5)
    for key in ('loss_mask', 'd0.loss_dice'):
        assert losses['none'][key] == 0
        torch.testing.assert_close(losses['tenth'][key], 0.1 * losses['all'][key])
    assert losses['tenth']['pseudo_share'] == 1


class TestAffinity:
    def build(
        self, batch: str, clips_alike: bool = True
    ) -> tuple[nn.Module, list[ClipPredictions], list[ClipTargets], list[Any]]:
        targets = make_targets(BATCHES[batch])
        predictions = make_predictions(len(targets))
        criterion = MODELS.build(criterion_cfg(loss_pseudo=None))
        pairs = [
            criterion.loss_pair.build_pairs(
                rgb_to_lab(make_clip(seed=i)),
                predictions[-1].mask_features[i],
                target.boxes,
                target.box_masks,
            )
            for i, target in enumerate(targets)
        ]
        return criterion, predictions, targets, pairs

    @pytest.mark.parametrize('batch', list(BATCHES))
    def test_is_the_mean_over_clips_with_a_pair(self, batch: str) -> None:
        criterion, predictions, targets, pairs = self.build(batch)
        losses = criterion(predictions, targets, None, pairs, 0.5)
        for layer, prediction in enumerate(predictions):
            values = []
            for clip in range(len(targets)):
                matches = matches_of(criterion, predictions, targets, layer, clip)
                queries, gts = (
                    (torch.tensor(inds, dtype=torch.long) for inds in zip(*matches))
                    if (matches)
                    else (torch.zeros(0, dtype=torch.long),) * 2
                )
                selected = pairs[clip].select(gts)
                if selected.counts().sum():
                    logits = prediction.mask_logits[clip, queries]
                    values.append(criterion.loss_pair(logits, selected))
            wanted = torch.stack(values).mean() if values else torch.zeros(())
            prefix = '' if layer == NUM_PREDICTIONS - 1 else f'd{layer}.'
            torch.testing.assert_close(losses[f'{prefix}loss_pair'], wanted)
            assert losses[f'{prefix}loss_pair'].requires_grad
        num = max(sum(map(len, targets)), 1)
        kept = sum(int(clip.counts().sum()) for clip in pairs)
        assert losses['pairs_per_instance'] == pytest.approx(kept / num)
        assert (kept > 0) == (batch != 'no object')

    def test_order_of_instances_follows_the_matching(self) -> None:
        """Affinity pairs of an instance go with the query matched to that instance."""
        criterion, predictions, targets, pairs = self.build('one clip')
        (first, second) = matches_of(criterion, predictions, targets, NUM_PREDICTIONS - 1, 0)
        loss = criterion(predictions, targets, None, pairs, 0.5)['loss_pair']
        (gradient,) = torch.autograd.grad(loss, predictions[-1].mask_logits)
        for query, gt in (first, second):
            touched = gradient[0, query].abs().amax(0) > 0
            rows, columns = touched.nonzero().unbind(1)
            x1, y1, x2, y2 = (
                targets[0].boxes[gt][targets[0].valid[gt]] * torch.tensor([24, 16, 24, 16])
            ).unbind(1)
            # the neighbour outside the box is at most 4 pixels away
            assert columns.min() >= x1.min() - 2
            assert columns.max() <= x2.max() + 2
            assert rows.min() >= y1.min() - 2
            assert rows.max() <= y2.max() + 2


class Recorder(nn.Module):
    """Stands for the pseudo mask loss and keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(
        self, mask_logits: Tensor, target_masks: Tensor, avg_factor: Tensor, weights: None = None
    ) -> tuple[Tensor, Tensor]:
        self.calls.append((mask_logits, target_masks, avg_factor))
        return mask_logits.sum(), mask_logits.mean()


class TestPseudoMasks:
    @pytest.mark.parametrize('batch', list(BATCHES))
    @pytest.mark.parametrize('threshold', [0.0, 0.5, 1.0])
    def test_confident_ones_reach_the_loss_of_their_query(
        self, batch: str, threshold: float
    ) -> None:
        targets = make_targets(BATCHES[batch])
        predictions = make_predictions(len(targets))
        pseudo = make_pseudo(targets)
        # without point terms in the matching, which are random
        assigner = dict(type='BoxSupervisedAssigner', mask_weight=0.0, dice_weight=0.0)
        criterion = MODELS.build(criterion_cfg(loss_pair=None, assigner=assigner))
        criterion.loss_pseudo = Recorder()
        losses = criterion(predictions, targets, pseudo, None, threshold)
        assert len(criterion.loss_pseudo.calls) == NUM_PREDICTIONS
        for layer, (logits, masks, num) in enumerate(criterion.loss_pseudo.calls):
            wanted_logits, wanted_masks = [], []
            for clip in range(len(targets)):
                for query, gt in matches_of(criterion, predictions, targets, layer, clip):
                    # an instance without a teacher's query has no mask to learn from
                    if pseudo[clip].query_inds[gt] >= 0 and pseudo[clip].scores[gt] >= threshold:
                        wanted_logits.append(predictions[layer].mask_logits[clip, query])
                        wanted_masks.append(pseudo[clip].masks[gt])
            assert len(logits) == len(masks) == len(wanted_logits)
            if wanted_logits:
                assert torch.equal(logits, torch.stack(wanted_logits))
                assert torch.equal(masks, torch.stack(wanted_masks))
            assert num == max(sum(map(len, targets)), 1)
        scores = torch.cat([p.scores for p in pseudo])
        known = torch.cat([p.query_inds for p in pseudo]) >= 0
        share = ((scores >= threshold) & known).sum() / max(len(scores), 1)
        assert losses['pseudo_share'] == pytest.approx(float(share))
        assert losses['pseudo_threshold'] == threshold

    def test_without_a_teacher_there_is_no_mask_loss(self) -> None:
        targets = make_targets([TWO_OBJECTS])
        criterion = MODELS.build(criterion_cfg(loss_pair=None))
        losses = criterion(make_predictions(1), targets, None, None, 0.5)
        names = {name.split('.')[-1] for name in losses}
        assert names == {'loss_cls', 'loss_proj', 'matches_changed'}


class TestMaskSupervised:
    def build(self) -> Any:
        return MODELS.build(
            dict(
                type='MaskSupervisedCriterion',
                assigner=dict(type='MaskAssigner', mask_weight=0.0, dice_weight=0.0),
                loss_mask=dict(type='PseudoMaskLoss'),
            )
        )

    @pytest.mark.parametrize('batch', list(BATCHES))
    def test_annotated_masks_reach_the_loss_of_their_query(self, batch: str) -> None:
        targets = make_targets(BATCHES[batch])
        predictions = make_predictions(len(targets))
        criterion = self.build()
        criterion.loss_mask = Recorder()
        losses = criterion(predictions, targets)
        for layer, (logits, masks, num) in enumerate(criterion.loss_mask.calls):
            pairs = [
                (clip, query, gt)
                for clip in range(len(targets))
                for query, gt in matches_of(criterion, predictions, targets, layer, clip)
            ]
            assert len(logits) == len(pairs)
            for row, (clip, query, gt) in enumerate(pairs):
                assert torch.equal(logits[row], predictions[layer].mask_logits[clip, query])
                assert targets[clip].masks is not None
                assert torch.equal(masks[row], targets[clip].masks[gt])
            assert num == max(sum(map(len, targets)), 1)
            matches = [
                [(query, gt) for c, query, gt in pairs if c == clip] for clip in range(len(targets))
            ]
            prefix = '' if layer == NUM_PREDICTIONS - 1 else f'd{layer}.'
            torch.testing.assert_close(
                losses[f'{prefix}loss_cls'], slow_cls_loss(predictions[layer], targets, matches)
            )

    def test_targets_without_masks_are_an_error(self) -> None:
        targets = [ClipTargets.from_data_sample(make_sample(TWO_OBJECTS), SIZE)]
        with pytest.raises(ValueError, match='needs masks'):
            self.build()(make_predictions(1), targets)


@pytest.mark.parametrize('size', [1, 2, 100])
@pytest.mark.parametrize('batch', BATCHES)
def test_losses_in_parts_are_the_losses(
    batch: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a row has its points wherever it comes, so that they do not depend on the parts
    monkeypatch.setattr(
        pseudo_mask_loss,
        'sample_uncertain_points',
        lambda rows, count, *_: torch.rand(
            1, count, 2, generator=torch.Generator().manual_seed(1)
        ).expand(len(rows), -1, -1),
    )
    clips = BATCHES[batch]
    predictions, targets = make_predictions(len(clips)), make_targets(clips)
    pseudo = make_pseudo(targets)
    labs = [rgb_to_lab(make_clip(seed=i)) for i in range(len(clips))]
    results = []
    for at_once in (None, size):
        criterion = MODELS.build(criterion_cfg(instances_at_once=at_once))
        features = torch.ones(NUM_FRAMES, 4, SIZE[0] // 4, SIZE[1] // 4)
        pairs = [
            criterion.loss_pair.build_pairs(lab, features, target.boxes, target.box_masks)
            for lab, target in zip(labs, targets)
        ]
        torch.manual_seed(0)
        losses = criterion(predictions, targets, pseudo, pairs, 0.5)
        leaves = [layer.mask_logits for layer in predictions]
        total = sum(value for name, value in losses.items() if 'loss' in name)
        results.append((losses, torch.autograd.grad(total, leaves)))
    (expected, expected_grads), (losses, grads) = results
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    torch.testing.assert_close(grads, expected_grads)


def test_parts_must_hold_an_instance() -> None:
    with pytest.raises(ValueError, match='instances_at_once must be positive'):
        MODELS.build(criterion_cfg(instances_at_once=0))


def test_matches_changed_is_the_share_between_the_last_two_layers() -> None:
    targets = make_targets([TWO_OBJECTS, {}])
    none = torch.zeros(0, dtype=torch.long)
    both = torch.tensor([0, 1])
    share = without_box_terms()._matches_changed

    def layer(queries: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(torch.tensor(queries), both), (none, none)]

    assert share([layer([4, 2]), layer([4, 2])], targets) == 0
    assert share([layer([4, 2]), layer([4, 3])], targets) == 0.5
    assert share([layer([1, 1]), layer([4, 2]), layer([2, 4])], targets) == 1
    assert share([layer([4, 2])], targets) is None
    assert share([[(none, none)]] * 2, make_targets([{}])) == 0
