"""Predictions of all layers against the targets of a clip: matching, then losses."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.utils import reduce_mean
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmboxvis.models.losses import ProjectionLoss
from mmboxvis.registry import MODELS, TASK_UTILS
from mmboxvis.structures import AffinityPairs, ClipPredictions, ClipTargets, PseudoMasks

# for each clip of the batch: matched queries and the instances they belong to
LayerMatches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class _Averages:
    """Scalars that sums over the batch are divided by, each a mean over the processes.

    Attributes:
        instances: instances, or 1 where there is none.
        cls_weight: sum of the weights of the queries' classes, or 1 where it is 0.
        pair_clips: clips that keep a pair, or 1 where none does.
    """

    instances: Tensor
    cls_weight: Tensor
    pair_clips: Tensor


class _Criterion(BaseModule):
    """Matching and classification, which both kinds of supervision share.

    B clips, L predictions (the initial queries' and one a layer), N instances of a clip, n of
    them matched, Q queries, K classes, T frames, masks (h, w) predicted and (H, W) annotated.

    Args:
        assigner: config of the matcher.
        cls_weight: weight of the classification loss.
        no_object_weight: weight of the class *no object* in it.
        local_averages: averages the class loss over the queries and the pairwise loss over the
            clips of each process, as the released program does, and not of all, and counts at
            least one instance a process: with several processes the loss then depends on how the
            clips are dealt out.
    """

    def __init__(
        self,
        *,
        assigner: dict,
        cls_weight: float = 2.0,
        no_object_weight: float = 0.1,
        local_averages: bool = False,
    ) -> None:
        super().__init__()
        self.assigner = TASK_UTILS.build(assigner)
        self.cls_weight = cls_weight
        self.no_object_weight = no_object_weight
        self.local_averages = local_averages

    def _match(
        self,
        predictions: Sequence[ClipPredictions],
        targets: Sequence[ClipTargets],
        pseudo: Sequence[PseudoMasks | None],
        threshold: float,
    ) -> list[LayerMatches]:
        """Matches every layer of every clip on its own; indexed [layer][clip]."""
        by_clip = []
        for i, target in enumerate(targets):
            by_clip.append(
                self.assigner.assign(
                    [layer.cls_logits[i].detach() for layer in predictions],
                    [layer.mask_logits[i].detach() for layer in predictions],
                    target,
                    pseudo[i],
                    threshold,
                )
            )
        return [list(layer) for layer in zip(*by_clip)]

    def _loss_cls(
        self,
        cls_logits: Tensor,
        targets: Sequence[ClipTargets],
        matches: LayerMatches,
        total_weight: Tensor,
    ) -> Tensor:
        """Softmax cross-entropy over B * Q queries, weighted mean."""
        num_classes = cls_logits.shape[-1] - 1
        labels = torch.full(
            cls_logits.shape[:2], num_classes, dtype=torch.long, device=cls_logits.device
        )
        for row, target, (query_inds, gt_inds) in zip(labels, targets, matches, strict=True):
            row[query_inds] = target.labels[gt_inds]
        weight = cls_logits.new_ones(num_classes + 1, dtype=torch.float32)
        weight[-1] = self.no_object_weight
        total = F.cross_entropy(
            cls_logits.flatten(0, 1).float(), labels.flatten(), weight, reduction='sum'
        )
        return self.cls_weight * total / total_weight

    def _averages(
        self,
        targets: Sequence[ClipTargets],
        num_queries: int,
        pairs: Sequence[AffinityPairs] | None = None,
    ) -> _Averages:
        """What sums over the batch are divided by, in one exchange between the processes.

        Gradients are averaged over the processes. Divided by the mean of the processes' counts, a
        sum of each becomes the mean over the whole batch, however it is dealt out.
        """
        matched = sum(min(len(target), num_queries) for target in targets)
        idle = len(targets) * num_queries - matched
        counts = torch.tensor(
            [
                float(sum(map(len, targets))),
                matched + self.no_object_weight * idle,
                float(sum(clip.num_pairs > 0 for clip in pairs or ())),
            ],
            device=targets[0].boxes.device,
        )
        means = reduce_mean(counts)
        if self.local_averages:
            means = torch.cat([means[:1].clamp(min=1), counts[1:]])
        return _Averages(*means.where(means > 0, 1))

    @staticmethod
    def _matches_changed(
        matches: Sequence[LayerMatches], targets: Sequence[ClipTargets]
    ) -> Tensor | None:
        """Share of the instances that the last layer matches to another query than the one before.

        Returns:
            A scalar in [0, 1], or ``None`` where there is only one prediction.
        """
        if len(matches) < 2:
            return None
        changed, total = targets[0].boxes.new_zeros(()), sum(map(len, targets))
        for target, before, last in zip(targets, matches[-2], matches[-1], strict=True):
            queries = target.labels.new_full((2, len(target)), -1)
            for row, (query_inds, gt_inds) in zip(queries, (before, last)):
                row[gt_inds] = query_inds
            changed = changed + (queries[0] != queries[1]).sum()
        return changed / max(total, 1)


def _matched_masks(
    predictions: Sequence[ClipPredictions], matches: Sequence[LayerMatches]
) -> list[Tensor]:
    """Mask logits of the matched queries of all clips, (sum n, T, h, w) float32 for each layer.

    Where predictions say what their masks are products of, the matched queries' are multiplied
    anew, those of all layers at once. So nothing is spent on the gradient of the other queries.
    """
    by_clip = []
    for i in range(len(predictions[0].mask_logits)):
        queries = [matched[i][0] for matched in matches]
        layers = [layer.clip(i) for layer in predictions]
        vectors = [
            layer.mask_vectors[q]
            for layer, q in zip(layers, queries)
            if layer.mask_vectors is not None
        ]
        if layers[0].mask_map is None or len(vectors) < len(layers):
            by_clip.append([layer.mask_logits[q] for layer, q in zip(layers, queries)])
            continue
        logits = torch.cat(vectors) @ layers[0].mask_map
        logits = logits.unflatten(-1, layers[0].mask_logits.shape[1:])
        by_clip.append(list(logits.split([len(q) for q in queries])))
    return [torch.cat(layer).float() for layer in zip(*by_clip)]


@dataclass(frozen=True)
class _MatchedTruth:
    """What the matched instances of all clips are compared with, one after another.

    Attributes:
        box_masks: (sum n, T, H, W).
        box_projections: theirs, see :meth:`ProjectionLoss.project_boxes`.
        confident: (m,) int64, the instances whose pseudo masks supervise.
        pseudo_masks: (m, T, H, W), theirs, or ``None`` without a teacher.
        pseudo_scores: (m,), the teacher's.
        pairs: one a clip, or ``None`` without a pairwise loss.
    """

    box_masks: Tensor
    box_projections: tuple[Tensor, Tensor]
    confident: Tensor | None
    pseudo_masks: Tensor | None
    pseudo_scores: Tensor | None
    pairs: list[AffinityPairs] | None

    @classmethod
    def of(
        cls,
        targets: Sequence[ClipTargets],
        pseudo: Sequence[PseudoMasks] | None,
        confident: Sequence[Tensor] | None,
        pairs: Sequence[AffinityPairs] | None,
        matched: LayerMatches,
        loss_proj: ProjectionLoss,
    ) -> _MatchedTruth:
        """Brings the truth into the order of the matches."""

        def in_order(values: Sequence[Tensor]) -> Tensor:
            return torch.cat(
                [x if len(gt) == len(x) else x[gt] for x, (_, gt) in zip(values, matched)]
            )

        kept = pseudo_masks = scores = None
        if pseudo is not None and confident is not None:
            kept = in_order(confident).nonzero().flatten()
            pseudo_masks = in_order([clip.masks for clip in pseudo])[kept]
            scores = in_order([clip.scores for clip in pseudo])[kept]
        clip_pairs = None
        if pairs is not None:
            clip_pairs = [
                clip if len(gt) == len(target) else clip.select(gt)
                for clip, target, (_, gt) in zip(pairs, targets, matched)
            ]
        box_masks = in_order([t.box_masks for t in targets])
        projections = loss_proj.project_boxes(box_masks)
        return cls(box_masks, projections, kept, pseudo_masks, scores, clip_pairs)

    def parts(self, size: int) -> list[_MatchedTruth]:
        """Cuts into parts of up to ``size`` instances, without pairs; waits for the device once."""
        kept = [] if self.confident is None else self.confident.tolist()
        parts = []
        for begin in range(0, max(len(self.box_masks), 1), size):
            some = slice(begin, begin + size)
            trusted = slice(bisect_left(kept, begin), bisect_left(kept, begin + size))
            columns, rows = self.box_projections
            parts.append(
                _MatchedTruth(
                    box_masks=self.box_masks[some],
                    box_projections=(columns[some], rows[some]),
                    confident=None if self.confident is None else self.confident[trusted] - begin,
                    pseudo_masks=None if self.pseudo_masks is None else self.pseudo_masks[trusted],
                    pseudo_scores=(
                        None if self.pseudo_scores is None else self.pseudo_scores[trusted]
                    ),
                    pairs=None,
                )
            )
        return parts


def _name_layers(layers: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Joins the layers' losses: ``loss_x`` for the last, ``d{i}.loss_x`` for the others."""
    named = dict(layers[-1])
    for i, losses in enumerate(layers[:-1]):
        named.update({f'd{i}.{name}': value for name, value in losses.items()})
    return named


@MODELS.register_module()
class BoxSupervisedCriterion(_Criterion):
    """Losses of BoxVIS: class, projection, pairwise affinity, pseudo masks (paper section 3).

    All predictions carry the same weights and each is matched on its own; the affinity pairs and
    the pseudo masks come from outside and are made once a step.

    Args:
        assigner: config of a :class:`BoxSupervisedAssigner`.
        loss_proj: config of a :class:`ProjectionLoss`.
        loss_pair: config of an :class:`STPALoss` or :class:`PairwiseAffinityLoss`, or ``None``.
        loss_pseudo: config of a :class:`PseudoMaskLoss`, or ``None``.
        weigh_pseudo_masks: every pseudo mask supervises, with its score as weight, instead of
            those above the threshold with a weight of 1 (beyond the paper).
        instances_at_once: compares the masks of so many instances of a layer at a time, and again
            in the backward pass, instead of keeping what the gradient needs of all layers and
            instances; value and gradient are the same, the points drawn are others. ``None``
            keeps everything.
        kwargs: ``cls_weight``, ``no_object_weight`` and ``local_averages``.
    """

    def __init__(
        self,
        *,
        assigner: dict,
        loss_proj: dict,
        loss_pair: dict | None = None,
        loss_pseudo: dict | None = None,
        weigh_pseudo_masks: bool = False,
        instances_at_once: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(assigner=assigner, **kwargs)
        if instances_at_once is not None and instances_at_once < 1:
            raise ValueError(f'instances_at_once must be positive, not {instances_at_once}')
        self.instances_at_once = instances_at_once
        self.weigh_pseudo_masks = weigh_pseudo_masks
        self.loss_proj = MODELS.build(loss_proj)
        self.loss_pair = None if loss_pair is None else MODELS.build(loss_pair)
        self.loss_pseudo = None if loss_pseudo is None else MODELS.build(loss_pseudo)

    def forward(
        self,
        predictions: Sequence[ClipPredictions],
        targets: Sequence[ClipTargets],
        pseudo: Sequence[PseudoMasks] | None,
        pairs: Sequence[AffinityPairs] | None,
        threshold: float,
    ) -> dict[str, Tensor]:
        """Losses of all predictions.

        Args:
            predictions: L, batched.
            targets: B.
            pseudo: B, or ``None`` without a teacher.
            pairs: B, or ``None`` without a pairwise loss.
            threshold: score from which a pseudo mask supervises.

        Returns:
            ``loss_cls``, ``loss_proj``, ``loss_pair``, ``loss_mask``, ``loss_dice`` (those in use)
            a layer, and ``pseudo_share``, ``pseudo_threshold``, ``pairs_per_instance`` and
            ``matches_changed`` for the log.
        """
        matches = self._match(predictions, targets, pseudo or [None] * len(targets), threshold)
        averages = self._averages(targets, predictions[-1].cls_logits.shape[1], pairs)
        confident = None
        if pseudo is not None:
            least = 0.0 if self.weigh_pseudo_masks else threshold
            confident = [(clip.scores >= least) & (clip.query_inds >= 0) for clip in pseudo]
        layers = []
        truth = None
        all_masks = _matched_masks(predictions, matches)
        for prediction, matched, masks in zip(predictions, matches, all_masks, strict=True):
            # matches come in the order of the instances, so with N <= Q all layers share the truth
            if truth is None or len(truth.box_masks) < sum(map(len, targets)):
                truth = _MatchedTruth.of(targets, pseudo, confident, pairs, matched, self.loss_proj)
            loss_cls = self._loss_cls(prediction.cls_logits, targets, matched, averages.cls_weight)
            by_masks = self._by_masks if self.instances_at_once is None else self._by_masks_in_parts
            layers.append(dict(loss_cls=loss_cls, **by_masks(masks, truth, matched, averages)))
        figures = self._figures(targets, confident, pairs, threshold)
        changed = self._matches_changed(matches, targets)
        if changed is not None:
            figures['matches_changed'] = changed
        return {**_name_layers(layers), **figures}

    def _by_masks(
        self, masks: Tensor, truth: _MatchedTruth, matched: LayerMatches, averages: _Averages
    ) -> dict[str, Tensor]:
        """All losses of a layer but that of the classes, for masks (sum n, T, h, w)."""
        losses = dict(
            loss_proj=self.loss_proj(
                masks,
                truth.box_masks,
                avg_factor=averages.instances,
                box_projections=truth.box_projections,
            )
        )
        if self.loss_pair is not None and truth.pairs is not None:
            losses['loss_pair'] = self._pair_loss(
                self.loss_pair, masks, matched, truth.pairs, averages.pair_clips
            )
        if self.loss_pseudo is not None and truth.pseudo_masks is not None:
            losses['loss_mask'], losses['loss_dice'] = self.loss_pseudo(
                masks[truth.confident],
                truth.pseudo_masks,
                avg_factor=averages.instances,
                weights=truth.pseudo_scores if self.weigh_pseudo_masks else None,
            )
        return losses

    def _by_masks_in_parts(
        self, masks: Tensor, truth: _MatchedTruth, matched: LayerMatches, averages: _Averages
    ) -> dict[str, Tensor]:
        """As :meth:`_by_masks`, keeping nothing but the masks for the gradient."""
        assert self.instances_at_once is not None
        names = ['loss_proj']
        if self.loss_pseudo is not None and truth.pseudo_masks is not None:
            names += ['loss_mask', 'loss_dice']
        parts = [
            checkpoint(self._by_masks, some, part, matched, averages, use_reentrant=False)
            for some, part in zip(
                masks.split(self.instances_at_once), truth.parts(self.instances_at_once)
            )
        ]
        losses = {name: torch.stack([part[name] for part in parts]).sum(0) for name in names}
        if self.loss_pair is not None and truth.pairs is not None:
            # what it works with grows with the instances, but is gone after each layer
            losses['loss_pair'] = checkpoint(
                self._pair_loss,
                self.loss_pair,
                masks,
                matched,
                truth.pairs,
                averages.pair_clips,
                use_reentrant=False,
            )
        return losses

    @staticmethod
    def _pair_loss(
        loss_pair: nn.Module,
        masks: Tensor,
        matched: LayerMatches,
        pairs: Sequence[AffinityPairs],
        num_clips: Tensor,
    ) -> Tensor:
        """Mean over the clips that keep a pair; 0, with a gradient, if none."""
        total = masks.sum() * 0
        parts = masks.split([len(gt) for _, gt in matched])
        for logits, clip_pairs in zip(parts, pairs, strict=True):
            total = total + loss_pair(logits, clip_pairs)
        return total / num_clips

    @staticmethod
    def _figures(
        targets: Sequence[ClipTargets],
        confident: Sequence[Tensor] | None,
        pairs: Sequence[AffinityPairs] | None,
        threshold: float,
    ) -> dict[str, Tensor]:
        """What the log shows beside the losses."""
        like = targets[0].boxes
        num = max(sum(map(len, targets)), 1)
        figures = {}
        if confident is not None:
            figures['pseudo_share'] = torch.cat(list(confident)).sum() / num
            figures['pseudo_threshold'] = like.new_tensor(threshold)
        if pairs is not None:
            kept = sum(clip.num_pairs for clip in pairs)
            figures['pairs_per_instance'] = like.new_tensor(kept / num)
        return figures


@MODELS.register_module()
class MaskSupervisedCriterion(_Criterion):
    """Losses of Mask2Former-VIS: class, mask and dice, against annotated masks.

    Args:
        assigner: config of a :class:`MaskAssigner`.
        loss_mask: config of a :class:`PseudoMaskLoss`, which takes hard masks as well.
        kwargs: ``cls_weight``, ``no_object_weight`` and ``local_averages``.
    """

    def __init__(self, *, assigner: dict, loss_mask: dict, **kwargs: Any) -> None:
        super().__init__(assigner=assigner, **kwargs)
        self.loss_mask = MODELS.build(loss_mask)

    def forward(
        self, predictions: Sequence[ClipPredictions], targets: Sequence[ClipTargets]
    ) -> dict[str, Tensor]:
        """Losses of all predictions; every target must have masks."""
        masks_of = []
        for target in targets:
            if target.masks is None:
                raise ValueError(
                    'pixel supervision needs masks: load them in the pipeline, or use BoxVIS'
                )
            masks_of.append(target.masks)
        matches = self._match(predictions, targets, [None] * len(targets), 0.0)
        averages = self._averages(targets, predictions[-1].cls_logits.shape[1])
        layers = []
        all_masks = _matched_masks(predictions, matches)
        for prediction, matched, matched_masks in zip(predictions, matches, all_masks, strict=True):
            loss_mask, loss_dice = self.loss_mask(
                matched_masks,
                torch.cat([masks[gt] for masks, (_, gt) in zip(masks_of, matched)]),
                avg_factor=averages.instances,
            )
            losses = dict(
                loss_cls=self._loss_cls(
                    prediction.cls_logits, targets, matched, averages.cls_weight
                ),
                loss_mask=loss_mask,
                loss_dice=loss_dice,
            )
            layers.append(losses)
        return _name_layers(layers)
