"""A training step composed the straightforward way, to compare time and memory with.

mmdet's own head, a teacher with all its auxiliary predictions, targets made for each of the two
networks, one matching and one transfer a layer, unfolded patches, masks of full size for the
projections, every term by autograd: what one gets by following the released program with the
parts that mmdet offers.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmcv.ops import point_sample
from mmdet.models.tracking_heads import Mask2FormerTrackHead
from mmdet.models.utils import get_uncertain_point_coords_with_randomness
from mmengine.config import ConfigDict
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.models.task_modules.match_costs import (
    classification_cost,
    point_bce_cost,
    point_dice_cost,
    query_quality,
)
from mmboxvis.models.vis import BoxVIS, ClipNetwork
from mmboxvis.structures import ClipTargets

from . import stpa_unfolded as stpa


class Layer(NamedTuple):
    cls_logits: Tensor  # (Q, K+1)
    mask_logits: Tensor  # (Q, T, h, w)


class PlainNetwork(nn.Module):
    """Backbone and mmdet's head, with the weights of a :class:`ClipNetwork`; one clip a batch."""

    def __init__(self, network: ClipNetwork, cfg: dict[str, Any], num_frames: int) -> None:
        super().__init__()
        head = ConfigDict(cfg['track_head'])
        self.backbone = copy.deepcopy(network.backbone)
        self.track_head = Mask2FormerTrackHead(
            in_channels=list(head['in_channels']),
            strides=[4, 8, 16, 32],
            feat_channels=head['feat_channels'],
            out_channels=head['out_channels'],
            num_classes=head['num_classes'],
            num_queries=head['num_queries'],
            num_frames=num_frames,
            num_transformer_feat_level=3,
            pixel_decoder=ConfigDict(head['pixel_decoder'], type='MSDeformAttnPixelDecoder'),
            transformer_decoder=head['transformer_decoder'],
            positional_encoding=dict(
                type='mmdet.SinePositionalEncoding3D', num_feats=head['feat_channels'] // 2
            ),
            loss_cls=ConfigDict(type='CrossEntropyLoss', class_weight=None),
        )
        # the flavour of the position code is the network's
        self.track_head.decoder_positional_encoding = network.track_head.decoder_positional_encoding
        self.track_head.load_state_dict(network.track_head.state_dict())
        self.to(next(network.parameters()).device)
        self.fine: Tensor
        self.track_head.pixel_decoder.mask_feature.register_forward_pre_hook(self._keep_fine)

    def _keep_fine(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        self.fine = inputs[0]

    def forward(self, clip: Tensor) -> list[Layer]:
        classes, masks = self.track_head.train()(self.backbone(clip), None)
        return [Layer(c[0], m[0]) for c, m in zip(classes, masks)]


def maxima(masks: Tensor) -> list[Tensor]:
    return [masks.amax(-2).flatten(1), masks.amax(-1).flatten(1)]


def dice(pred: Tensor, target: Tensor, floor: float) -> Tensor:
    """Pairwise (Q, N) of (Q, D) and (N, D)."""
    total = pred.square().sum(1)[:, None] + target.square().sum(1)[None]
    return 1 - 2 * (pred @ target.T) / total.clamp(min=floor)


@torch.no_grad()
def box_costs(layer: Layer, target: ClipTargets) -> Tensor:
    boxes = (stpa.resize(target.box_masks, layer.mask_logits.shape[-2:]) > 0.5).float()
    quality = query_quality(layer.mask_logits)
    costs = 2 * classification_cost(layer.cls_logits, target.labels, quality)
    for pred, box in zip(maxima(layer.mask_logits.sigmoid()), maxima(boxes)):
        costs = costs + 5 * dice(pred, box, 1e-3)
    return costs


def match(costs: Tensor) -> tuple[Tensor, Tensor]:
    gts, queries = linear_sum_assignment(costs.T.cpu().numpy())
    queries, gts = (torch.as_tensor(x, device=costs.device) for x in (queries, gts))
    return queries, gts


class PlainStep:
    """Losses of a clip, N <= Q, with the parts and weights of a :class:`BoxVIS`."""

    def __init__(self, model: BoxVIS, cfg: dict[str, Any], num_frames: int) -> None:
        self.student = PlainNetwork(model.student, cfg['network'], num_frames)
        self.teacher = PlainNetwork(model.teacher, cfg['network'], num_frames)
        self.teacher.requires_grad_(False)
        self.num_points = model.criterion.assigner.num_points
        self.threshold = model.confidence(model.progress)
        self.max_confidence = model.criterion.assigner.max_confidence
        self.preprocess = model.data_preprocessor

    def targets(self, batch: dict[str, Any]) -> ClipTargets:
        size = tuple(batch['inputs'].shape[-2:])
        device = batch['inputs'].device
        return ClipTargets.from_data_sample(batch['data_samples'][0], size, device=device)

    def losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        clip, lab = batch['inputs'][0], rgb_to_lab(batch['rgb'][0])
        pseudo, scores = self.pseudo_masks(self.teacher(clip)[-1], self.targets(batch))
        layers, target = self.student(clip), self.targets(batch)
        features = self.student.fine.detach()
        with torch.no_grad():
            pairs = stpa.build_pairs(lab, features, target.boxes, target.box_masks)
        losses: dict[str, Tensor] = {}
        for i, layer in enumerate(layers):
            terms = self.layer_losses(layer, target, pseudo, scores, pairs)
            losses.update({f'd{i}.{name}': value for name, value in terms.items()})
        return losses

    @torch.no_grad()
    def pseudo_masks(self, layer: Layer, target: ClipTargets) -> tuple[Tensor, Tensor]:
        queries, _ = match(box_costs(layer, target))
        masks = stpa.resize(layer.mask_logits[queries], target.box_masks.shape[-2:]).sigmoid()
        similarity = [
            1 - dice(pred, box, 1e-6).diagonal()
            for pred, box in zip(maxima(masks), maxima(target.box_masks))
        ]
        probs = layer.cls_logits.softmax(-1)[queries, target.labels]
        return masks * target.box_masks, probs * (similarity[0] + similarity[1]) / 2

    @torch.no_grad()
    def costs(self, layer: Layer, target: ClipTargets, pseudo: Tensor, scores: Tensor) -> Tensor:
        boxes = stpa.resize(target.box_masks, layer.mask_logits.shape[-2:]) > 0.5
        large = boxes.float().flatten(1).mean(1) > 0.05
        trusted = (scores >= min(self.threshold, self.max_confidence)) & large
        points = torch.rand(1, self.num_points, 2, device=boxes.device)

        def sample(masks: Tensor) -> Tensor:
            rows = masks.flatten(0, 1)[:, None]
            return point_sample(rows, points.expand(len(rows), -1, -1)).view(len(masks), -1)

        logits, values = sample(layer.mask_logits), sample(pseudo)
        by_masks = 2.5 * (point_bce_cost(logits, values) + point_dice_cost(logits, values))
        return box_costs(layer, target) + by_masks.where(trusted, 0)

    def layer_losses(
        self,
        layer: Layer,
        target: ClipTargets,
        pseudo: Tensor,
        scores: Tensor,
        pairs: stpa.Pairs,
    ) -> dict[str, Tensor]:
        queries, gts = match(self.costs(layer, target, pseudo, scores))
        count = max(len(target), 1)
        num_classes = layer.cls_logits.shape[1] - 1
        labels = target.labels.new_full((len(layer.cls_logits),), num_classes)
        labels[queries] = target.labels[gts]
        weight = layer.cls_logits.new_ones(num_classes + 1)
        weight[-1] = 0.1
        masks = layer.mask_logits[queries]
        size = pairs.size  # the projections are compared at the same one
        probs = stpa.resize(masks, size).sigmoid()
        boxes = stpa.resize(target.box_masks[gts], size)
        projection = sum(
            dice(pred, box, 1e-6).diagonal().sum()
            for pred, box in zip(maxima(probs), maxima(boxes))
        )
        confident = (scores >= self.threshold)[gts]
        mask, dices = self.mask_losses(masks[confident], pseudo[gts][confident])
        return dict(
            loss_cls=2 * F.cross_entropy(layer.cls_logits, labels, weight),
            loss_proj=5 * projection / count,
            loss_pair=stpa.stpa_loss(masks, pairs),
            loss_mask=2.5 * mask / count,
            loss_dice=2.5 * dices / count,
        )

    def mask_losses(self, logits: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        rows, truth = logits.flatten(0, 1)[:, None], masks.flatten(0, 1)[:, None]
        if not len(rows):
            return rows.sum(), rows.sum()
        with torch.no_grad():
            points = get_uncertain_point_coords_with_randomness(
                rows, None, self.num_points, 3.0, 0.5
            )
            values = point_sample(truth, points)[:, 0]
        sampled = point_sample(rows, points)[:, 0]
        entropy = F.binary_cross_entropy_with_logits(sampled, values, reduction='none').mean(1)
        probs = sampled.sigmoid()
        shared, total = (probs * values).sum(1), probs.sum(1) + values.sum(1)
        return entropy.sum(), (1 - (2 * shared + 1) / (total + 1)).sum()

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        for old, new in zip(self.teacher.parameters(), self.student.parameters()):
            old.copy_(old.clone() * (1 - momentum) + new.clone() * momentum)
