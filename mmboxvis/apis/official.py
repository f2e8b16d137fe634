"""Released checkpoints: reading them safely, loading them as a model, writing them back."""

from __future__ import annotations

import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmboxvis.engine.checkpoint_files import CheckpointError, local_checkpoint
from mmboxvis.files import whole_file
from mmboxvis.models.vis import BaseVIS, BoxVIS
from mmboxvis.models.vis.network_cfg import clip_network_cfg
from mmboxvis.plain_pickle import ADMITTED_BY_TORCH, PlainUnpickler
from mmboxvis.registry import MODELS

from .official_keys import as_tensors, official_to_ours, ours_to_official, strip_owner


def read_checkpoint(path: str | os.PathLike) -> dict[str, Tensor]:
    """Reads a released ``.pkl`` or ``.pth``, whatever container it keeps its tensors in.

    Pickles are read with an unpickler that admits numpy arrays and plain containers only, torch
    files with ``weights_only=True``: neither can run code.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it holds no tensors, or something that is not admitted.
    """
    return _tensors(_read_safely(path), path)


def _tensors(content: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors in what a released file holds, see :func:`read_checkpoint`."""
    for key in ('model', 'state_dict'):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content:
        raise ValueError(f'{path} holds no dict of tensors but {type(content).__name__}')
    try:
        return as_tensors(content)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f'{path} holds something else than tensors: {error}') from error


def _read_safely(path: str | os.PathLike) -> Any:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no checkpoint at {path}')
    data = io.BytesIO(path.read_bytes())
    try:
        if path.suffix == '.pkl':
            return PlainUnpickler(data).load()
        with torch.serialization.safe_globals(list(ADMITTED_BY_TORCH)):
            return torch.load(data, map_location='cpu', weights_only=True)
    except Exception as error:
        raise ValueError(f'{path} is no readable checkpoint: {_reason(error)}') from error


# lines in which torch advises to switch its check off
_TORCH_ADVICE = ('Weights only load failed', '(1)', '(2)', 'Please file', 'Check the documentation')


def _reason(error: Exception) -> str:
    """What was wrong, in one line and without torch's advice."""
    if isinstance(error, KeyError | IndexError | EOFError):  # as a pickle fails on other content
        return 'it is no file of torch and no pickle, or was cut off'
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(_TORCH_ADVICE)]
    return [*told, type(error).__name__][0].split(' Please use')[0]


def is_official(state: dict[str, Tensor]) -> bool:
    """Whether tensor names are those of the released layout."""
    return any(name.startswith(('sem_seg_head.', 'sem_seg_head_t.')) for name in state)


_COCO_CLASSES = 80


def convert_official(
    path: str | os.PathLike,
    which: str = 'both',
    *,
    keep_classes: bool | None = None,
    is_boxvis: bool | None = None,
) -> dict[str, Any]:
    """Reads a released checkpoint as one that ``tools/test.py`` and ``load_from`` take.

    Args:
        path: a released BoxVIS, Mask2Former, Mask2Former-VIS or MinVIS file.
        which: ``both`` keeps student and teacher, ``student`` drops the teacher, ``teacher`` puts
            the teacher in the student's place.
        keep_classes: ``False`` drops the class layer, as training on other classes needs; ``None``
            drops it where it is that of Mask2Former for COCO, which is what it is trained on from.
        is_boxvis: whether BoxVIS was trained, with its own position code; ``None`` takes it for
            BoxVIS where the file has a teacher or the counter of its confidence schedule.

    Returns:
        ``state_dict`` and ``meta``; what is no part of a network, and a class layer that was
        dropped, is kept in the meta, so that :func:`to_official` can write the same file again.
        The meta also tells ``paired_frequencies``, the position code that no tensor tells.

    Raises:
        ValueError: where the file is no released checkpoint, has tensors without a place (it
            names them) or lacks the part asked for.
    """
    state = read_checkpoint(path)
    return _converted(state, path, which, keep_classes=keep_classes, is_boxvis=is_boxvis)


def _converted(
    state: dict[str, Tensor],
    path: str | os.PathLike,
    which: str = 'both',
    *,
    keep_classes: bool | None = None,
    is_boxvis: bool | None = None,
) -> dict[str, Any]:
    """A released state dict as a checkpoint of ours, see :func:`convert_official`."""
    if not is_official(state):
        raise ValueError(
            f'{path} is not in the released layout (no "sem_seg_head." in it), it begins with '
            f'{next(iter(state))!r}{_hint(state)}'
        )
    try:
        ours, extras = official_to_ours(state)
    except KeyError as error:
        raise ValueError(f'{path}: {error.args[0]}') from error
    if is_boxvis is None:
        has_teacher = any(name.startswith('teacher.') for name in ours)
        is_boxvis = has_teacher or 'criterion._iter' in extras
    if which != 'both':
        part = strip_owner(ours, which)
        if not part:
            raise ValueError(f'{path} has no {which}')
        ours = {f'student.{name}': tensor for name, tensor in part.items()}
    if keep_classes is None:
        keep_classes = not _is_coco(ours)
    if not keep_classes:
        dropped = {name: tensor for name, tensor in ours.items() if '.cls_embed.' in name}
        ours = {name: tensor for name, tensor in ours.items() if name not in dropped}
        extras = {**extras, **ours_to_official(dropped)}
    meta = dict(official_extras=extras, paired_frequencies=not is_boxvis)
    return dict(state_dict=OrderedDict(ours), meta=meta)


def _hint(state: dict[str, Tensor]) -> str:
    """What to do with a file of mmdet, or of ours."""
    owners = {name.partition('.')[0] for name in state}
    if owners & {'panoptic_head', 'track_head', 'student', 'teacher'}:
        return (
            '; weights trained here or with mmdet need their config, and load_from, tools/test.py, '
            'VideoSegmenter and tools/infer.py (--config) take such a file as it is'
        )
    return ''


def _is_coco(ours: dict[str, Tensor]) -> bool:
    """Whether this is a network for COCO's images: its classes, and no teacher."""
    bias = ours.get('student.track_head.cls_embed.bias')
    has_teacher = any(name.startswith('teacher.') for name in ours)
    return bias is not None and len(bias) == _COCO_CLASSES + 1 and not has_teacher


def read_ours(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a checkpoint of ours, that of a training run included, without running code from it.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it holds something that is not admitted, or no student.
    """
    content = _read_safely(path)
    if not _is_ours(content):
        raise ValueError(f'{path} is no checkpoint of ours: no tensor begins with "student."')
    return content


def _is_ours(content: Any) -> bool:
    state = content.get('state_dict', content) if isinstance(content, dict) else {}
    return any(str(name).startswith('student.') for name in state)


def read_network(path: str | os.PathLike) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Reads a checkpoint of ours or of mmdet's models, without running code from it.

    Returns:
        Its tensors under the names that they have here, and its ``meta``.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it holds something that is not admitted, or no network.
    """
    content = _read_safely(path)
    content = content if isinstance(content, dict) else {}
    state = content.get('state_dict', content.get('model', content))
    state = dict(state) if isinstance(state, dict) else {}
    if is_official(state):
        raise ValueError(
            f'{path} is in the released layout: convert it with '
            'tools/model_converters/from_official.py'
        )
    BaseVIS.rename_top_level(state)
    if not any(str(name).startswith('student.') for name in state):
        raise ValueError(
            f'{path} is no checkpoint of ours: no tensor begins with "student.", nor as those of '
            "mmdet's models"
        )
    return state, content.get('meta') or {}


def require_position_code(
    model: BaseVIS, meta: Mapping[str, Any], path: str | os.PathLike[str]
) -> None:
    """Checks that a model has the position code that a converted checkpoint was trained with.

    Raises:
        ValueError: if it has the other, which gives other masks; the message names the setting.
    """
    trained = meta.get('paired_frequencies')
    if trained is None:
        return
    if model.student.track_head.decoder_positional_encoding.paired_frequencies != trained:
        raise ValueError(
            f'{path} was trained with another position code: set '
            f'model.network.track_head.positional_encoding.paired_frequencies={trained} in the '
            'config, or with --cfg-options'
        )


def load_weights(model: BaseVIS, path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """Loads a checkpoint, ours or a released one, without running code from it.

    Args:
        model: as its config builds it.
        path: or URL of the checkpoint; every tensor of the student must be in it.

    Returns:
        The checkpoint's ``meta``; empty for a released one.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it holds something that is not admitted, or does not fit the model.
    """
    meta: Mapping[str, Any] = {}
    try:
        with local_checkpoint(path) as local:
            content = _read_safely(local)
            if _is_ours(content):
                state, meta = content.get('state_dict', content), content.get('meta', {})
            else:
                state = _tensors(content, local)
                if is_official(state):
                    converted = _converted(state, local)
                    state = converted['state_dict']
                    require_position_code(model, converted['meta'], path)
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    require_position_code(model, meta, path)
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:  # tensors of a wrong shape, all of them named
        raise ValueError(f'{path} does not fit the config: {error}') from error
    missing = [
        name
        for name in missing
        if name.startswith('student.') and not name.endswith('num_batches_tracked')
    ]
    if missing:
        raise ValueError(
            f'{path} does not fit the config: {len(missing)} tensors are missing or, for a class '
            f'layer, of another size: {missing[:5]}'
        )
    return meta


def to_official(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """State dict in the released layout of a checkpoint of ours, see :func:`read_ours`."""
    state = checkpoint.get('state_dict', checkpoint)
    extras = checkpoint.get('meta', {}).get('official_extras', {})
    network = {k: v for k, v in state.items() if k.startswith(('student.', 'teacher.'))}
    return ours_to_official(network, extras)


def save_whole(checkpoint: Any, path: str | os.PathLike) -> None:
    """Writes a torch file, or a pickle of numpy arrays for ``.pkl``, whole or not at all.

    The pickle can be read with numpy 1 as well, as the released programs need it.
    """
    with whole_file(path) as temporary:
        if temporary.suffix == '.pkl':
            model = {name: tensor.numpy() for name, tensor in checkpoint.items()}
            # of the protocols that name modules in plain text the last
            data = pickle.dumps(dict(model=model, matching_heuristics=True), protocol=3)
            # numpy 1 has no numpy._core; the name stands once, before the first array
            temporary.write_bytes(
                data.replace(b'cnumpy._core.multiarray\n', b'cnumpy.core.multiarray\n', 1)
            )
        else:
            torch.save(checkpoint, temporary)


def load_official(path: str | os.PathLike) -> BoxVIS:
    """Builds the model that a released checkpoint belongs to and loads it.

    All sizes are read off the tensors (number of heads: 8, which the tensors do not tell). A file
    without a teacher gives a model whose teacher equals the student.

    Args:
        path: a released ``.pkl`` or ``.pth``.

    Returns:
        The model in eval mode on the CPU, with the position code that the file was trained with:
        BoxVIS's own, or the common one where the file is no BoxVIS file.

    Raises:
        ValueError: where tensors are missing, left over or of a wrong shape; it names them.
    """
    converted = convert_official(path, keep_classes=True)
    state = converted['state_dict']
    student, paired = strip_owner(state, 'student'), converted['meta']['paired_frequencies']
    try:
        network = network_cfg_from(student, paired_frequencies=paired)
    except KeyError as error:
        raise ValueError(f'{path}: missing student.{error.args[0]}') from error
    model = MODELS.build(
        dict(
            type='BoxVIS',
            _scope_='mmboxvis',  # the caller may have set another default scope
            network=network,
            criterion=dict(
                type='BoxSupervisedCriterion',
                assigner=dict(type='BoxSupervisedAssigner'),
                loss_proj=dict(type='ProjectionLoss', loss_weight=5.0),
                loss_pair=dict(type='STPALoss'),
                loss_pseudo=dict(type='PseudoMaskLoss'),
            ),
            pseudo_masks=dict(type='PseudoMaskGenerator'),
        )
    )
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:  # tensors of a wrong shape, all of them named
        raise ValueError(f'{path}: {error}') from error
    missing = [name for name in missing if not name.endswith('num_batches_tracked')]
    if missing or unexpected:
        raise ValueError(f'{path}: missing {missing[:20]}, left over {unexpected[:20]}')
    return model.eval()


def network_cfg_from(state: dict[str, Tensor], *, paired_frequencies: bool) -> dict[str, Any]:
    """Config of the :class:`ClipNetwork` whose tensors these are.

    Args:
        state: our names without ``student.``.
        paired_frequencies: see :class:`SinePositionalEncoding3D`; no tensor tells.
    """

    def count(prefix: str) -> int:
        numbers = {
            int(name[len(prefix) :].split('.')[0]) for name in state if name.startswith(prefix)
        }
        return len(numbers)

    heads, levels = 8, count('track_head.pixel_decoder.input_convs.')
    decoder = 'track_head.transformer_decoder.layers.'
    encoder = 'track_head.pixel_decoder.encoder.layers.'
    num_queries, channels = state['track_head.query_feat.weight'].shape
    backbone, in_channels = (_swin_cfg if _is_swin(state) else _resnet_cfg)(state)
    weights = state[f'{encoder}0.self_attn.attention_weights.weight']
    return clip_network_cfg(
        backbone=backbone,
        in_channels=in_channels,
        num_classes=len(state['track_head.cls_embed.bias']) - 1,
        num_queries=num_queries,
        channels=channels,
        mask_channels=len(state['track_head.pixel_decoder.mask_feature.bias']),
        num_heads=heads,
        num_points=len(weights) // (heads * levels),
        encoder_layers=count(encoder),
        encoder_ffn=len(state[f'{encoder}0.ffn.layers.0.0.bias']),
        decoder_layers=count(decoder),
        decoder_ffn=len(state[f'{decoder}0.ffn.layers.0.0.bias']),
        paired_frequencies=paired_frequencies,
    )


def _is_swin(state: dict[str, Tensor]) -> bool:
    return 'backbone.patch_embed.projection.weight' in state


_RESNET_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


def _blocks(state: dict[str, Tensor], prefix: str) -> int:
    return len({n[len(prefix) :].split('.')[0] for n in state if n.startswith(prefix)})


def _resnet_cfg(state: dict[str, Tensor]) -> tuple[dict[str, Any], list[int]]:
    blocks = tuple(_blocks(state, f'backbone.layer{stage}.') for stage in (1, 2, 3, 4))
    if blocks not in _RESNET_DEPTHS:
        raise ValueError(f'a ResNet with {blocks} blocks a stage is none of 50, 101, 152')
    in_channels = [len(state[f'backbone.layer{stage}.0.conv3.weight']) for stage in (1, 2, 3, 4)]
    backbone = dict(
        type='ResNet',
        depth=_RESNET_DEPTHS[blocks],
        stem_channels=len(state['backbone.conv1.weight']),
        base_channels=len(state['backbone.layer1.0.conv1.weight']),
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=-1,
        norm_cfg=dict(type='BN', requires_grad=False),
        norm_eval=True,
        style='pytorch',
    )
    return backbone, in_channels


def _swin_cfg(state: dict[str, Tensor]) -> tuple[dict[str, Any], list[int]]:
    tables = [
        state[f'backbone.stages.{s}.blocks.0.attn.w_msa.relative_position_bias_table']
        for s in range(4)
    ]
    dims = len(state['backbone.patch_embed.projection.weight'])
    backbone = dict(
        type='SwinTransformer',
        embed_dims=dims,
        depths=[_blocks(state, f'backbone.stages.{stage}.blocks.') for stage in range(4)],
        num_heads=[table.shape[1] for table in tables],
        window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,
        mlp_ratio=len(state['backbone.stages.0.blocks.0.ffn.layers.0.0.bias']) // dims,
        drop_path_rate=0.3,
        patch_norm='backbone.patch_embed.norm.weight' in state,
        out_indices=(0, 1, 2, 3),
    )
    return backbone, [dims * 2**stage for stage in range(4)]
