from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.structures import TrackDataSample
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import Tensor

from mmboxvis.models.vis import BoxVIS
from mmboxvis.registry import MODELS
from mmboxvis.structures import VideoPrediction
from tests.models.tiny import (
    NUM_LAYERS,
    NUM_QUERIES,
    SIZE,
    TWO_OBJECTS,
    Instances,
    criterion_cfg,
    make_batch,
    make_boxvis,
    make_clip,
    make_sample,
    make_video,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
LOSSES = ('loss_cls', 'loss_proj', 'loss_pair', 'loss_mask', 'loss_dice')
FIGURES = {'pseudo_share', 'pseudo_threshold', 'pairs_per_instance', 'matches_changed'}
MANY: Instances = {
    i: (i % 4, [(4 * i, 3 * i, 4 * i + 30, 3 * i + 25)] * 3) for i in range(NUM_QUERIES + 3)
}


def loss_keys(names: tuple[str, ...] = LOSSES) -> set[str]:
    return {
        f'{prefix}{n}' for n in names for prefix in ('', *(f'd{i}.' for i in range(NUM_LAYERS)))
    }


def compute_loss(
    model: BoxVIS, clips: list[Tensor], samples: list[TrackDataSample]
) -> dict[str, Tensor]:
    model.train()
    return model(**make_batch(model, clips, samples), mode='loss')


def backward(losses: dict[str, Tensor]) -> None:
    sum(value for name, value in losses.items() if 'loss' in name).backward()


def confident(model: BoxVIS) -> BoxVIS:
    """Every pseudo mask supervises."""
    model.confidence.mode, model.confidence.value = 'constant', 0.0
    return model


# name: (instances of each clip, T, black frames)
CASES: dict[str, tuple[list[Instances], int, bool]] = {
    'no object': ([{}, {}], 3, False),
    'one object': ([{4: (0, [(8, 8, 60, 50)] * 3)}], 3, False),
    'object missing in a frame': ([TWO_OBJECTS, {}], 3, False),
    'more objects than queries': ([MANY, TWO_OBJECTS], 3, False),
    'one frame': ([{4: (0, [(8, 8, 60, 50)])}, {}], 1, False),
    'two frames': ([{4: (0, [(8, 8, 60, 50), None])}], 2, False),
    'black frames': ([TWO_OBJECTS], 3, True),
    'small object': ([{4: (0, [(8, 8, 8.5, 8.5)] * 3)}], 3, False),
}


@pytest.mark.parametrize('case', list(CASES))
@pytest.mark.parametrize('sure', [False, True], ids=['as scheduled', 'all confident'])
def test_loss_is_finite_and_reaches_every_parameter(case: str, sure: bool) -> None:
    instances, num_frames, black = CASES[case]
    model = make_boxvis()
    if sure:
        confident(model)
    clips = [make_clip(num_frames, seed=i) for i in range(len(instances))]
    if black:
        clips = [torch.zeros_like(clip) for clip in clips]
    losses = compute_loss(model, clips, [make_sample(i, num_frames) for i in instances])
    assert losses.keys() == loss_keys() | FIGURES
    for name, value in losses.items():
        assert value.dim() == 0, name
        assert torch.isfinite(value), name
    backward(losses)
    for name, parameter in model.student.named_parameters():
        if parameter.requires_grad:
            # a parameter without a gradient hangs distributed training
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        else:
            assert parameter.grad is None, name
    assert all(parameter.grad is None for parameter in model.teacher.parameters())


def test_without_objects_only_classes_are_learnt() -> None:
    losses = compute_loss(make_boxvis(), [make_clip()], [make_sample({})])
    for name, value in losses.items():
        if name.endswith('loss_cls'):
            assert value > 0
        elif name != 'pseudo_threshold':
            assert value == 0, name


def test_every_loss_of_a_clear_case_is_positive() -> None:
    losses = compute_loss(confident(make_boxvis()), [make_clip()], [make_sample(TWO_OBJECTS)])
    for name in loss_keys():
        assert losses[name] > 0, name
    assert losses['pseudo_share'] == 1
    assert losses['pairs_per_instance'] > 0


@pytest.mark.parametrize('num_clips', [1, 2])
def test_projection_alone_and_clips_alone_add_up(num_clips: int) -> None:
    """The loss of a batch is that of its clips, put together as the classes ask."""
    cfg = criterion_cfg(loss_pair=None, loss_pseudo=None)
    model = make_boxvis(criterion=cfg, pseudo_masks=None)
    clips = [make_clip(seed=i) for i in range(num_clips)]
    samples = [make_sample(TWO_OBJECTS) for _ in clips]
    together = compute_loss(model, clips, samples)
    alone = [compute_loss(model, [clip], [sample]) for clip, sample in zip(clips, samples)]
    for name in loss_keys(('loss_proj', 'loss_cls')):
        mean = torch.stack([losses[name] for losses in alone]).mean()
        torch.testing.assert_close(together[name], mean, atol=1e-4, rtol=1e-4)


class TestTeacher:
    def test_starts_equal(self) -> None:
        model = make_boxvis()
        model.init_weights()
        for name, tensor in model.student.state_dict().items():
            assert torch.equal(tensor, model.teacher.state_dict()[name]), name

    def test_stays_in_eval_mode(self) -> None:
        model = make_boxvis()
        for mode in (True, False, True):
            model.train(mode)
            assert model.student.training is mode
            assert not any(module.training for module in model.teacher.modules())

    @pytest.mark.parametrize('train_mode', [False, True])
    def test_mode_of_the_teacher(self, train_mode: bool) -> None:
        model = make_boxvis(teacher_train_mode=train_mode)
        model.teacher.track_head.mask_embed.append(torch.nn.Dropout(0.5))
        assert model.train().teacher.training is train_mode
        batch = make_batch(model, [make_clip()], [make_sample(TWO_OBJECTS)])
        first, second = (
            model.teacher(batch['inputs'], last_only=True)[-1].mask_logits for _ in range(2)
        )
        assert torch.equal(first, second) is not train_mode
        assert not model.eval().teacher.training

    def test_is_never_trained(self) -> None:
        model = make_boxvis()
        assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
        model.copy_student_to_teacher()
        assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
        assert any(parameter.requires_grad for parameter in model.student.parameters())

    def test_its_masks_supervise(self) -> None:
        model = confident(make_boxvis())
        clips, samples = [make_clip()], [make_sample(TWO_OBJECTS)]
        state = torch.random.get_rng_state()
        before = compute_loss(model, clips, samples)
        with torch.no_grad():
            model.teacher.track_head.mask_embed[4].bias.add_(1)
        torch.random.set_rng_state(state)
        after = compute_loss(model, clips, samples)
        assert (before['loss_mask'] - after['loss_mask']).abs() > 1e-4
        assert before['loss_cls'] != 0

    def test_leaves_prediction_alone(self) -> None:
        model = make_boxvis().eval()
        frames = make_clip().float()
        before = model.predict_clip(frames)[-1]
        with torch.no_grad():
            for parameter in model.teacher.parameters():
                parameter.zero_()
        assert torch.equal(model.predict_clip(frames)[-1].mask_logits, before.mask_logits)

    def test_can_be_left_out(self) -> None:
        model = make_boxvis(criterion=criterion_cfg(loss_pseudo=None), pseudo_masks=None)
        losses = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
        assert model.teacher is None
        assert not any(name.startswith('teacher') for name in model.state_dict())
        wanted = loss_keys(('loss_cls', 'loss_proj', 'loss_pair')) | {
            'pairs_per_instance',
            'matches_changed',
        }
        assert losses.keys() == wanted
        backward(losses)
        model.copy_student_to_teacher()
        model.update_teacher(0.5)

    def test_left_out_with_the_pseudo_mask_loss_still_configured(self) -> None:
        model = make_boxvis(pseudo_masks=None)
        losses = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
        assert not any('mask' in name or 'dice' in name for name in losses)


def test_without_affinity_loss() -> None:
    model = make_boxvis(criterion=criterion_cfg(loss_pair=None))
    losses = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    wanted = loss_keys(('loss_cls', 'loss_proj', 'loss_mask', 'loss_dice'))
    assert losses.keys() == wanted | {'pseudo_share', 'pseudo_threshold', 'matches_changed'}


def test_colour_affinity_of_the_baseline() -> None:
    model = make_boxvis(criterion=criterion_cfg(loss_pair=dict(type='PairwiseAffinityLoss')))
    losses = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    assert losses['loss_pair'] > 0


def test_threshold_follows_the_progress() -> None:
    model = make_boxvis()
    thresholds = []
    for progress in (0.0, 1.0):
        model.set_progress(progress)
        losses = compute_loss(model, [make_clip()], [make_sample({})])
        thresholds.append(float(losses['pseudo_threshold']))
    assert thresholds == pytest.approx([0.5, 0.880797], abs=1e-5)


def test_pairwise_loss_warms_up_alone() -> None:
    losses = {}
    for warmup in (0.0, 0.5):
        torch.manual_seed(1)
        model = make_boxvis(pair_warmup=warmup)
        for progress in (0.1, 0.5):
            model.set_progress(progress)
            torch.manual_seed(0)
            key = warmup, progress
            losses[key] = compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    for progress, share in ((0.1, 0.2), (0.5, 1.0)):
        warm, full = losses[0.5, progress], losses[0.0, progress]
        for name, value in full.items():
            torch.testing.assert_close(
                warm[name], value * (share if name.endswith('loss_pair') else 1)
            )
    with pytest.raises(ValueError, match='pair_warmup'):
        make_boxvis(pair_warmup=1.5)


def test_warmup_that_nobody_counts_is_told() -> None:
    """Without the hook the weight of the pairs would stay 0 for ever."""
    model = make_boxvis(pair_warmup=0.5)
    with pytest.raises(ValueError, match=r'EMATeacherHook.*custom_hooks'):
        compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])


def test_padding_is_no_part_of_the_target() -> None:
    """A clip smaller than the batch gives the same boxes in pixels."""
    model = make_boxvis()
    small, large = make_clip(size=(40, 50)), make_clip(size=SIZE)
    sample = make_sample({1: (0, [(4, 4, 30, 30)] * 3)})
    losses = compute_loss(model, [small, large], [sample, make_sample({})])
    assert all(torch.isfinite(value) for value in losses.values())


@pytest.mark.parametrize('option', ['released_boxes', 'box_centers'])
def test_how_boxes_are_filled_moves_the_targets_alone(option: str) -> None:
    sample = make_sample({4: (0, [(8.25, 8.75, 59.25, 50.25)] * 3)})
    losses = {}
    for chosen in (False, True):
        torch.manual_seed(0)
        model = make_boxvis(**{option: chosen})
        losses[chosen] = compute_loss(model, [make_clip()], [sample])
    assert losses[True]['loss_proj'] != losses[False]['loss_proj']
    assert losses[True]['loss_cls'] == losses[False]['loss_cls']


def test_inputs_and_samples_are_not_edited() -> None:
    model = confident(make_boxvis()).train()
    samples = [make_sample(TWO_OBJECTS), make_sample({})]
    batch = make_batch(model, [make_clip(seed=i) for i in range(2)], samples)
    before = copy.deepcopy(batch)
    backward(model(**batch, mode='loss'))
    for name in ('inputs', 'rgb'):
        assert torch.equal(batch[name], before[name])
    for sample, old in zip(batch['data_samples'], before['data_samples'], strict=True):
        assert set(sample.keys()) == set(old.keys())
        for frame, old_frame in zip(sample.video_data_samples, old.video_data_samples):
            assert set(frame.gt_instances.keys()) == set(old_frame.gt_instances.keys())
            for key, value in frame.gt_instances.items():
                assert torch.equal(value, old_frame.gt_instances[key])


def test_training_step_changes_the_student_alone() -> None:
    model = make_boxvis().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = dict(inputs=[make_clip()], data_samples=[make_sample(TWO_OBJECTS)])
    log = model.train_step(data, OptimWrapper(optimizer))
    assert log['loss'] > 0
    assert log.keys() >= FIGURES
    total = sum(value for name, value in log.items() if name in loss_keys())
    torch.testing.assert_close(log['loss'], total)
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert any(name.startswith('student.backbone.layer1') for name in changed)
    assert not any(name.startswith('teacher.') or '.bn' in name for name in changed)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype: torch.dtype) -> None:
    model = confident(make_boxvis()).train()
    batch = make_batch(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    with torch.autocast('cpu', dtype=dtype):
        losses = model(**batch, mode='loss')
    for name, value in losses.items():
        assert torch.isfinite(value), name
        assert value.dtype == torch.float32 or not value.is_floating_point(), name
    backward(losses)


def test_double_precision() -> None:
    """Losses are those of a model in float32, which they come in themselves."""
    model = confident(make_boxvis())
    batch = make_batch(model, [make_clip()], [make_sample(TWO_OBJECTS)])
    wanted = model(**batch, mode='loss')
    model.double()
    found = model(**batch | dict(inputs=batch['inputs'].double()), mode='loss')
    assert found.keys() == wanted.keys()
    for name in ('loss_cls', 'loss_proj', 'loss_pair'):
        torch.testing.assert_close(found[name], wanted[name], atol=1e-3, rtol=1e-3)
    backward(found)
    assert model.predict_clip(make_clip())[-1].mask_logits.dtype == torch.float64


class TestErrors:
    def test_rgb_is_needed(self) -> None:
        model = make_boxvis(data_preprocessor=dict(type='ClipDataPreprocessor', keep_rgb=False))
        with pytest.raises(ValueError, match='keep_rgb=True'):
            compute_loss(model, [make_clip()], [make_sample(TWO_OBJECTS)])

    def test_unknown_mode(self) -> None:
        with pytest.raises(ValueError, match="'loss', 'predict' or 'tensor'"):
            make_boxvis()(torch.rand(1, 1, 3, 32, 32), mode='train')

    @pytest.mark.parametrize('size', [(33, 64), (64, 48)])
    def test_clip_that_is_not_padded(self, size: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match='multiples of 32'):
            make_boxvis().predict_clip(torch.zeros(1, 3, *size))


class TestModes:
    def test_tensor_mode_gives_the_predictions(self) -> None:
        model = make_boxvis().eval()
        with torch.no_grad():
            predictions = model(torch.rand(2, 3, 3, 32, 64))
        assert len(predictions) == 1 + NUM_LAYERS
        assert predictions[-1].mask_logits.shape == (2, NUM_QUERIES, 3, 8, 16)

    def test_predict_clip_takes_rgb(self) -> None:
        model = make_boxvis().eval()
        clip = make_clip()  # BGR
        batch = model.data_preprocessor(dict(inputs=[clip]))
        with torch.no_grad():
            wanted = model.student(batch['inputs'])
        got = model.predict_clip(clip.flip(1).float())
        for prediction, layer in zip(got, wanted, strict=True):
            assert torch.equal(prediction.mask_logits, layer.mask_logits[0])

    def test_predict_returns_new_samples(self) -> None:
        model = make_boxvis().eval()
        samples = [make_sample({}, 2, video_id=i, ori_shape=(90, 120)) for i in (5, 9)]
        data = dict(inputs=[make_video(2, seed=i) for i in range(2)], data_samples=samples)
        outputs = model.test_step(data)
        assert [output.pred_video.video_id for output in outputs] == [5, 9]
        for output, sample in zip(outputs, samples, strict=True):
            assert isinstance(output.pred_video, VideoPrediction)
            assert output.pred_video.size == (90, 120)
            assert output.video_id == sample.video_id
            assert len(output) == 2
            assert 'pred_video' not in sample


class TestRecipe:
    @pytest.fixture(scope='class')
    def model(self) -> Any:
        return Config.fromfile(CONFIGS / '_base_/models/boxvis_r50.py').model

    def test_weights(self, model: Any) -> None:
        criterion = MODELS.build(model.criterion)
        assert criterion.cls_weight == 2
        assert criterion.no_object_weight == 0.1
        assert criterion.loss_proj.loss_weight == 5
        assert criterion.loss_pair.loss_weight == 1
        assert criterion.loss_pair.num_neighbors == 7
        assert (criterion.loss_pseudo.mask_weight, criterion.loss_pseudo.dice_weight) == (2.5, 2.5)
        assert criterion.loss_pseudo.num_points == 12544
        assert criterion.loss_pseudo.importance_sample_ratio == 0.5
        assert criterion.loss_pseudo.oversample_ratio == 3
        assigner = criterion.assigner
        assert (assigner.cls_weight, assigner.projection_weight) == (2, 5)
        assert (assigner.mask_weight, assigner.dice_weight) == (2.5, 2.5)
        assert (assigner.max_confidence, assigner.small_area) == (0.8, 0.05)

    def test_network(self, model: Any) -> None:
        with torch.device('meta'):
            network = MODELS.build(model.network)
        head = network.track_head
        assert (head.num_classes, head.num_queries) == (40, 100)
        assert [layer.cross_attn.num_heads for layer in head.transformer_decoder.layers] == [8] * 9
        assert len(head.pixel_decoder.encoder.layers) == 6
        assert not head.decoder_positional_encoding.paired_frequencies
        assert head.cls_embed.out_features == 41
        trained = {name for name, p in network.named_parameters() if p.requires_grad}
        assert not any('.bn' in name or 'downsample.1' in name for name in trained)
        assert 'backbone.conv1.weight' in trained
        # stride in the 3x3 convolution
        assert network.backbone.layer2[0].conv2.stride == (2, 2)
        total = sum(p.numel() for p in network.parameters())
        assert total == pytest.approx(44.0e6, rel=0.01)

    @pytest.mark.parametrize('name', ['boxvis_r50', 'boxvis_tiny'])
    def test_configs_build(self, name: str) -> None:
        model = Config.fromfile(CONFIGS / f'_base_/models/{name}.py').model
        with torch.device('meta'):
            assert isinstance(MODELS.build(model), BoxVIS)
