from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.mask import BitmapMasks

from mmboxvis.structures import ClipTargets, boxes_to_masks
from tests.models.tiny import TWO_OBJECTS, make_sample

PAD = (64, 96)


def fill_pixel_by_pixel(box: list[float], size: tuple[int, int], rule: str) -> torch.Tensor:
    mask = torch.zeros(size)
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return mask
    if rule == 'centers':
        columns, rows = pixels_with_centers(x1, x2), pixels_with_centers(y1, y2)
        for y in range(size[0]):
            for x in range(size[1]):
                mask[y, x] = y in rows and x in columns
        return mask
    for y in range(size[0]):
        for x in range(size[1]):
            if rule == 'released':
                inside = math.floor(x1) < x <= math.ceil(x2) and math.floor(y1) < y <= math.ceil(y2)
            else:
                inside = math.floor(x1) <= x < math.ceil(x2) and math.floor(y1) <= y < math.ceil(y2)
            mask[y, x] = inside
    return mask


def pixels_with_centers(low: float, high: float) -> list[int]:
    touched = range(math.floor(low), math.ceil(high))
    return [x for x in touched if low <= x + 0.5 < high] or list(touched)


coordinates = st.one_of(
    st.integers(-3, 16).map(float), st.floats(-3, 16, width=16, allow_nan=False)
)


class TestBoxesToMasks:
    def test_no_box(self) -> None:
        assert boxes_to_masks(torch.zeros(0, 3, 4), (5, 7)).shape == (0, 3, 5, 7)

    def test_whole_pixels_fill_the_half_open_box(self) -> None:
        (mask,) = boxes_to_masks(torch.tensor([[2.0, 1, 5, 3]]), (4, 6))
        assert mask.nonzero().tolist() == [[y, x] for y in (1, 2) for x in (2, 3, 4)]

    def test_released_rule_is_one_pixel_further(self) -> None:
        (mask,) = boxes_to_masks(torch.tensor([[10.0, 0, 20, 4]]), (8, 32), released=True)
        assert mask.any(0).nonzero().flatten().tolist() == list(range(11, 21))
        assert mask.any(1).nonzero().flatten().tolist() == [1, 2, 3, 4]

    def test_centers_keep_the_size_of_fractional_boxes(self) -> None:
        boxes = torch.tensor([[2.25, 1.5, 5.25, 3.5], [2.75, 1.75, 5.75, 3.75]])
        assert boxes_to_masks(boxes, (6, 8), centers=True).sum((1, 2)).tolist() == [6, 6]
        assert boxes_to_masks(boxes, (6, 8)).sum((1, 2)).tolist() == [12, 12]

    def test_centers_leave_no_box_empty(self) -> None:
        (mask,) = boxes_to_masks(torch.tensor([[2.6, 1.6, 2.9, 3.4]]), (5, 6), centers=True)
        assert mask.nonzero().tolist() == [[2, 2]]

    def test_one_rule_at_a_time(self) -> None:
        with pytest.raises(ValueError, match='not both'):
            boxes_to_masks(torch.zeros(1, 4), (2, 2), released=True, centers=True)

    @pytest.mark.parametrize('rule', ['touched', 'released', 'centers'])
    @settings(deadline=None, max_examples=60)
    @given(boxes=st.lists(st.lists(coordinates, min_size=4, max_size=4), min_size=1, max_size=3))
    def test_agrees_with_a_loop_over_pixels(self, rule: str, boxes: list[list[float]]) -> None:
        size = (11, 13)
        options = {} if rule == 'touched' else {rule: True}
        masks = boxes_to_masks(torch.tensor(boxes)[:, None], size, **options)
        slow = torch.stack([fill_pixel_by_pixel(box, size, rule) for box in boxes])
        assert masks.dtype == torch.float32
        assert torch.equal(masks[:, 0], slow)


class TestFromDataSample:
    def test_no_object(self) -> None:
        targets = ClipTargets.from_data_sample(make_sample({}, 2), PAD)
        assert len(targets) == 0
        assert targets.labels.dtype == torch.int64
        assert targets.boxes.shape == (0, 2, 4)
        assert targets.box_masks.shape == (0, 2, *PAD)
        assert targets.valid.shape == (0, 2)
        assert targets.masks is None

    def test_one_object_in_one_frame(self) -> None:
        sample = make_sample({5: (3, [(0, 0, 96, 64)])}, 1)
        targets = ClipTargets.from_data_sample(sample, PAD)
        assert targets.instance_ids.tolist() == [5]
        assert targets.labels.tolist() == [3]
        assert targets.boxes.tolist() == [[[0, 0, 1, 1]]]
        assert targets.box_masks.all()

    def test_union_of_ids_and_zero_where_absent(self) -> None:
        targets = ClipTargets.from_data_sample(make_sample(TWO_OBJECTS), PAD)
        by_id = {int(i): n for n, i in enumerate(targets.instance_ids)}
        assert sorted(by_id) == [3, 7]
        other = by_id[3]
        assert targets.labels[other] == 2
        assert targets.valid[other].tolist() == [True, False, True]
        assert not targets.boxes[other, 1].any()
        assert not targets.box_masks[other, 1].any()
        assert targets.box_masks[other, 2].sum() == (88 - 44) * (62 - 12)

    def test_boxes_are_divided_by_the_padded_size(self) -> None:
        sample = make_sample({1: (0, [(12, 8, 48, 32)])}, 1)
        targets = ClipTargets.from_data_sample(sample, (64, 96))
        torch.testing.assert_close(targets.boxes[0, 0], torch.tensor([0.125, 0.125, 0.5, 0.5]))

    def test_class_is_that_of_the_first_frame_seen(self) -> None:
        sample = make_sample({1: (2, [None, (1, 1, 9, 9), (1, 1, 9, 9)])})
        sample[2].gt_instances.labels = torch.tensor([3])
        assert ClipTargets.from_data_sample(sample, PAD).labels.tolist() == [2]

    def test_boxes_without_area_are_absent(self) -> None:
        sample = make_sample(
            {
                1: (0, [(4, 4, 4, 9), (5, 5, 9, 9)]),  # no width in the first frame
                2: (1, [(9, 9, 5, 12), (3, 8, 7, 8)]),  # nowhere an area
            },
            2,
        )
        targets = ClipTargets.from_data_sample(sample, PAD)
        assert targets.instance_ids.tolist() == [1]
        assert targets.valid.tolist() == [[False, True]]
        assert not targets.boxes[0, 0].any()

    def test_valid_exactly_where_the_box_mask_is_not_empty(self) -> None:
        targets = ClipTargets.from_data_sample(make_sample(TWO_OBJECTS), PAD)
        assert torch.equal(targets.valid, targets.box_masks.flatten(2).any(-1))

    @pytest.mark.parametrize('box', [(63.0, 4.0, 64.0, 20.0), (4.0, 31.5, 9.0, 32.0)])
    def test_released_rule_drops_what_it_moves_out_of_the_frame(
        self, box: tuple[float, float, float, float]
    ) -> None:
        sample = make_sample({5: (3, [box, box])}, 2)
        for released, number in ((False, 1), (True, 0)):
            targets = ClipTargets.from_data_sample(sample, (32, 64), released_boxes=released)
            assert len(targets) == number
            assert targets.box_masks.flatten(1).any(1).all()

    def test_released_rule_changes_masks_only(self) -> None:
        sample = make_sample({1: (0, [(8, 8, 16, 16)])}, 1)
        targets = ClipTargets.from_data_sample(sample, PAD, released_boxes=True)
        plain = ClipTargets.from_data_sample(sample, PAD)
        assert torch.equal(targets.boxes, plain.boxes)
        assert torch.equal(targets.box_masks[..., 1:, 1:], plain.box_masks[..., :-1, :-1])

    def test_masks_are_padded_and_follow_their_instances(self) -> None:
        sample = make_sample(TWO_OBJECTS, mask_size=(62, 90))
        targets = ClipTargets.from_data_sample(sample, PAD)
        assert targets.masks is not None
        # the masks of the sample are the filled boxes
        assert torch.equal(targets.masks, targets.box_masks)

    def test_masks_without_any_object(self) -> None:
        targets = ClipTargets.from_data_sample(make_sample({}, 2, mask_size=(62, 90)), PAD)
        assert targets.masks is not None
        assert targets.masks.shape == (0, 2, *PAD)

    def test_masks_are_left_out_where_a_frame_has_none(self) -> None:
        sample = make_sample(TWO_OBJECTS, mask_size=(62, 90))
        del sample[1].gt_instances.masks
        assert ClipTargets.from_data_sample(sample, PAD).masks is None

    def test_sample_is_not_edited(self) -> None:
        sample = make_sample({1: (0, [(4, 4, 4, 9), (5, 5, 9, 9)])}, 2, mask_size=PAD)
        before = sample.clone()
        targets = ClipTargets.from_data_sample(sample, PAD)
        targets.boxes.zero_()
        for frame, old in zip(sample.video_data_samples, before.video_data_samples):
            for name in ('bboxes', 'labels', 'instances_ids'):
                assert torch.equal(frame.gt_instances[name], old.gt_instances[name])
            assert isinstance(frame.gt_instances.masks, BitmapMasks)
            assert np.array_equal(frame.gt_instances.masks.masks, old.gt_instances.masks.masks)

    def test_batch(self) -> None:
        samples = [make_sample(TWO_OBJECTS), make_sample({})]
        targets = ClipTargets.from_data_samples(samples, PAD)
        assert [len(target) for target in targets] == [2, 0]

    @settings(deadline=None, max_examples=40)
    @given(data=st.data())
    def test_agrees_with_a_dictionary(self, data: st.DataObject) -> None:
        num_frames = data.draw(st.integers(1, 4))
        box = st.tuples(*[st.integers(0, 15)] * 4)
        seen = {
            i: (
                data.draw(st.integers(0, 4)),
                data.draw(st.lists(st.none() | box, min_size=num_frames, max_size=num_frames)),
            )
            for i in data.draw(st.sets(st.integers(0, 99), max_size=4))
        }
        targets = ClipTargets.from_data_sample(make_sample(seen, num_frames), (16, 16))
        wanted = {
            i: (
                label,
                [
                    [c / 16 for c in b] if b and b[2] > b[0] and b[3] > b[1] else [0] * 4
                    for b in boxes
                ],
            )
            for i, (label, boxes) in seen.items()
            if any(b and b[2] > b[0] and b[3] > b[1] for b in boxes)
        }
        got = {
            int(i): (int(label), boxes.tolist())
            for i, label, boxes in zip(targets.instance_ids, targets.labels, targets.boxes)
        }
        assert got == wanted
