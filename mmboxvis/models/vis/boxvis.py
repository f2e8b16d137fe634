"""BoxVIS: a student, its averaged teacher, and the losses between them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from mmdet.structures import TrackDataSample
from torch import Tensor

from mmboxvis.models.data_preprocessors import ColorJitter
from mmboxvis.models.heads import BoxSupervisedCriterion
from mmboxvis.models.losses.functional import rgb_to_lab
from mmboxvis.models.task_modules import ConfidenceSchedule, PseudoMaskGenerator
from mmboxvis.registry import MODELS, TASK_UTILS
from mmboxvis.structures import AffinityPairs, ClipPredictions, ClipTargets, PseudoMasks

from .base import BaseVIS
from .clip_network import ClipNetwork


@MODELS.register_module()
class BoxVIS(BaseVIS):
    """Learns masks from boxes (paper section 3).

    The teacher is a copy of the student that :class:`EMATeacherHook` moves after it. It sees the
    same frames; its last layer's masks, cut to the boxes, are the pseudo masks that supervise the
    student where they are confident enough. The teacher is never trained, in eval mode, and not
    used for prediction.

    Args:
        network: config of a :class:`ClipNetwork`; student and teacher are made of it.
        criterion: config of a :class:`BoxSupervisedCriterion`.
        pseudo_masks: config of a :class:`PseudoMaskGenerator`, or ``None`` for a student alone
            (the first two rows of the paper's Table 3). No teacher is built then.
        confidence: config of a :class:`ConfidenceSchedule`: the score a pseudo mask needs.
        pair_warmup: share of the training over which the weight of the pairwise loss rises from
            0 to its own (beyond the paper; 0 for no warm-up). :class:`EMATeacherHook` tells how far
            training is, with or without a teacher.
        student_view: config of a :class:`ColorJitter` that the student's frames go through, while
            the teacher and the pairs see the plain ones (beyond the paper, where both networks
            see the same).
        released_boxes: fills boxes as the released program does, one pixel further right and
            down, see :func:`mmboxvis.structures.boxes_to_masks`.
        box_centers: fills boxes with the pixels whose centres they hold, instead of all they
            touch (beyond the paper; for small frames).
        teacher_train_mode: trains with the teacher in train mode, as the released program does:
            the drop-path of a Swin backbone then adds noise to its pseudo masks.
        kwargs: see :class:`BaseVIS`.
    """

    def __init__(
        self,
        *,
        network: dict,
        criterion: dict,
        pseudo_masks: dict | None,
        confidence: dict | None = None,
        released_boxes: bool = False,
        box_centers: bool = False,
        teacher_train_mode: bool = False,
        pair_warmup: float = 0.0,
        student_view: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(network=network, **kwargs)
        if not 0 <= pair_warmup <= 1:
            raise ValueError(f'pair_warmup must lie in [0, 1], not {pair_warmup}')
        self.pair_warmup = pair_warmup
        self.student_view: ColorJitter | None = (
            None if student_view is None else MODELS.build(student_view)
        )
        self.criterion: BoxSupervisedCriterion = MODELS.build(criterion)
        self.released_boxes = released_boxes
        self.box_centers = box_centers
        self.teacher_train_mode = teacher_train_mode
        self.confidence: ConfidenceSchedule = TASK_UTILS.build(
            confidence or dict(type='ConfidenceSchedule')
        )
        self.pseudo_mask_generator: PseudoMaskGenerator | None = None
        self.teacher: ClipNetwork | None = None
        if pseudo_masks is not None:
            self.pseudo_mask_generator = TASK_UTILS.build(pseudo_masks)
            self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval()
        self.teacher_loaded = False
        self.progress = 0.0

    def init_weights(self) -> None:
        """Initialises the student and copies it: both start as one."""
        super().init_weights()
        self.copy_student_to_teacher()

    def train(self, mode: bool = True) -> BoxVIS:
        """Sets the mode; the teacher stays in eval mode, unless ``teacher_train_mode``."""
        super().train(mode)
        if self.teacher is not None and not self.teacher_train_mode:
            self.teacher.eval()
        return self

    @torch.no_grad()
    def copy_student_to_teacher(self) -> None:
        """Makes the teacher equal to the student, buffers included.

        Piece by piece, so that it works as well where each process holds a part of both.
        """
        if self.teacher is None:
            return
        old, new = (
            [*network.parameters(), *network.buffers()] for network in (self.teacher, self.student)
        )
        torch._foreach_copy_(old, new)

    @torch.no_grad()
    def update_teacher(self, momentum: float) -> None:
        """Moves the teacher: ``teacher += momentum * (student - teacher)``.

        Only trained parameters move; buffers and frozen parameters are equal from the start.
        """
        if self.teacher is None:
            return
        pairs = [
            (old, new)
            for old, new in zip(self.teacher.parameters(), self.student.parameters())
            if new.requires_grad
        ]
        torch._foreach_lerp_([old for old, _ in pairs], [new for _, new in pairs], momentum)

    def set_progress(self, progress: float) -> None:
        """Tells how far training is, 0 to 1, for the confidence schedule."""
        self.progress = progress

    def loss(
        self, inputs: Tensor, data_samples: list[TrackDataSample], rgb: Tensor | None
    ) -> dict[str, Tensor]:
        """Losses of all layers for a batch of clips with boxes.

        Args:
            inputs: (B, T, 3, H, W) normalised.
            data_samples: B clips with ``bboxes``, ``labels`` and ``instances_ids`` a frame.
            rgb: (B, T, 3, H, W), 0-255, black where padded.

        Returns:
            ``loss_*`` of the last layer, ``d0.loss_*`` ... of the others, and four figures for
            the log: the share of confident pseudo masks, their threshold, the kept pairs an
            instance, and the share of instances whose query the last layer changed.
        """
        if rgb is None:
            raise ValueError('BoxVIS needs the RGB frames: keep_rgb=True in the preprocessor')
        if self.pair_warmup and not self.progress:
            raise ValueError(
                'pair_warmup needs to know how far training is: add dict(type="EMATeacherHook") to '
                'custom_hooks, which tells it, also to a model without teacher'
            )
        targets = ClipTargets.from_data_samples(
            data_samples,
            (inputs.shape[-2], inputs.shape[-1]),
            device=inputs.device,
            released_boxes=self.released_boxes,
            box_centers=self.box_centers,
        )
        # the teacher first: what it needs is free again before the student keeps its activations
        labs = self._colors(rgb)
        pseudo = self._pseudo_masks(inputs, targets, labs)
        predictions = self.student(self._student_inputs(inputs, rgb))
        threshold = self.confidence(self.progress)
        pairs = self._affinity_pairs(labs, predictions[-1], targets)
        losses = self.criterion(predictions, targets, pseudo, pairs, threshold)
        if self.progress >= self.pair_warmup:
            return losses
        weight = self.progress / self.pair_warmup
        return {k: weight * v if k.endswith('loss_pair') else v for k, v in losses.items()}

    @torch.no_grad()
    def _student_inputs(self, inputs: Tensor, rgb: Tensor) -> Tensor:
        """What the student sees; padding, which is 0 in both, stays 0."""
        if self.student_view is None:
            return inputs
        normalize = self.data_preprocessor.normalize
        return inputs + (normalize(self.student_view(rgb)) - normalize(rgb))

    def _colors(self, rgb: Tensor) -> list[Tensor | None]:
        """CIE Lab colours (T, 3, H, W) of each clip, where anything compares them."""
        generator = self.pseudo_mask_generator
        refine = generator is not None and generator.refinements
        if self.criterion.loss_pair is None and not refine:
            return [None] * len(rgb)
        return [rgb_to_lab(frames) for frames in rgb]

    @torch.no_grad()
    def _pseudo_masks(
        self, inputs: Tensor, targets: list[ClipTargets], labs: list[Tensor | None]
    ) -> list[PseudoMasks] | None:
        if self.teacher is None or self.pseudo_mask_generator is None:
            return None
        prediction = self.teacher(inputs, last_only=True)[-1]
        return [
            self.pseudo_mask_generator(
                prediction.cls_logits[i],
                prediction.mask_logits[i],
                target.labels,
                target.box_masks,
                labs[i],
            )
            for i, target in enumerate(targets)
        ]

    @torch.no_grad()
    def _affinity_pairs(
        self, labs: list[Tensor | None], prediction: ClipPredictions, targets: list[ClipTargets]
    ) -> list[AffinityPairs] | None:
        loss_pair = self.criterion.loss_pair
        if loss_pair is None:
            return None
        return [
            loss_pair.build_pairs(
                labs[i],
                prediction.mask_features[i].detach(),
                target.boxes,
                target.box_masks,
            )
            for i, target in enumerate(targets)
        ]

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        self.rename_top_level(state_dict, prefix)
        student, teacher = (
            [name for name in state_dict if name.startswith(f'{prefix}{owner}.')]
            for owner in ('student', 'teacher')
        )
        self.teacher_loaded = bool(teacher)
        if self.teacher is None:
            for name in teacher:
                del state_dict[name]
        elif not teacher:
            for name in student:
                rest = name[len(f'{prefix}student.') :]
                state_dict[f'{prefix}teacher.{rest}'] = state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
