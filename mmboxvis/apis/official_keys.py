"""Names of tensors: the released (detectron2-style) layout and ours, both ways.

The table is data: a pair of templates a row. ``{i}`` and ``{j}`` stand for a number, ``{rest}``
for the last part of a name. Every row reads in both directions, so that a converted file can be
written back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

_PIXEL_DECODER = (
    ('input_proj.{i}.0.{rest}', 'input_convs.{i}.conv.{rest}'),
    ('input_proj.{i}.1.{rest}', 'input_convs.{i}.gn.{rest}'),
    ('transformer.level_embed', 'level_encoding.weight'),
    ('transformer.encoder.layers.{i}.self_attn.{rest}', 'encoder.layers.{i}.self_attn.{rest}'),
    ('transformer.encoder.layers.{i}.norm1.{rest}', 'encoder.layers.{i}.norms.0.{rest}'),
    ('transformer.encoder.layers.{i}.norm2.{rest}', 'encoder.layers.{i}.norms.1.{rest}'),
    ('transformer.encoder.layers.{i}.linear1.{rest}', 'encoder.layers.{i}.ffn.layers.0.0.{rest}'),
    ('transformer.encoder.layers.{i}.linear2.{rest}', 'encoder.layers.{i}.ffn.layers.1.{rest}'),
    ('adapter_1.weight', 'lateral_convs.0.conv.weight'),
    ('adapter_1.norm.{rest}', 'lateral_convs.0.gn.{rest}'),
    ('layer_1.weight', 'output_convs.0.conv.weight'),
    ('layer_1.norm.{rest}', 'output_convs.0.gn.{rest}'),
    ('mask_features.{rest}', 'mask_feature.{rest}'),
)

_DECODER = (
    (
        'transformer_cross_attention_layers.{i}.multihead_attn.{rest}',
        'transformer_decoder.layers.{i}.cross_attn.attn.{rest}',
    ),
    (
        'transformer_self_attention_layers.{i}.self_attn.{rest}',
        'transformer_decoder.layers.{i}.self_attn.attn.{rest}',
    ),
    (
        'transformer_cross_attention_layers.{i}.norm.{rest}',
        'transformer_decoder.layers.{i}.norms.0.{rest}',
    ),
    (
        'transformer_self_attention_layers.{i}.norm.{rest}',
        'transformer_decoder.layers.{i}.norms.1.{rest}',
    ),
    ('transformer_ffn_layers.{i}.norm.{rest}', 'transformer_decoder.layers.{i}.norms.2.{rest}'),
    (
        'transformer_ffn_layers.{i}.linear1.{rest}',
        'transformer_decoder.layers.{i}.ffn.layers.0.0.{rest}',
    ),
    (
        'transformer_ffn_layers.{i}.linear2.{rest}',
        'transformer_decoder.layers.{i}.ffn.layers.1.{rest}',
    ),
    ('decoder_norm.{rest}', 'transformer_decoder.post_norm.{rest}'),
    ('query_feat.weight', 'query_feat.weight'),
    ('query_embed.weight', 'query_embed.weight'),
    ('level_embed.weight', 'level_embed.weight'),
    ('class_embed.{rest}', 'cls_embed.{rest}'),
    ('mask_embed.layers.0.{rest}', 'mask_embed.0.{rest}'),
    ('mask_embed.layers.1.{rest}', 'mask_embed.2.{rest}'),
    ('mask_embed.layers.2.{rest}', 'mask_embed.4.{rest}'),
)

_RESNET = (
    ('stem.conv1.weight', 'conv1.weight'),
    ('stem.conv1.norm.{rest}', 'bn1.{rest}'),
    *(
        row
        for stage in (1, 2, 3, 4)
        for row in (
            (f'res{stage + 1}.{{i}}.shortcut.weight', f'layer{stage}.{{i}}.downsample.0.weight'),
            (
                f'res{stage + 1}.{{i}}.shortcut.norm.{{rest}}',
                f'layer{stage}.{{i}}.downsample.1.{{rest}}',
            ),
            (
                f'res{stage + 1}.{{i}}.conv{{j}}.weight',
                f'layer{stage}.{{i}}.conv{{j}}.weight',
            ),
            (
                f'res{stage + 1}.{{i}}.conv{{j}}.norm.{{rest}}',
                f'layer{stage}.{{i}}.bn{{j}}.{{rest}}',
            ),
        )
    ),
)

_SWIN = (
    ('patch_embed.proj.{rest}', 'patch_embed.projection.{rest}'),
    ('patch_embed.norm.{rest}', 'patch_embed.norm.{rest}'),
    ('layers.{i}.blocks.{j}.attn.{rest}', 'stages.{i}.blocks.{j}.attn.w_msa.{rest}'),
    ('layers.{i}.blocks.{j}.mlp.fc1.{rest}', 'stages.{i}.blocks.{j}.ffn.layers.0.0.{rest}'),
    ('layers.{i}.blocks.{j}.mlp.fc2.{rest}', 'stages.{i}.blocks.{j}.ffn.layers.1.{rest}'),
    ('layers.{i}.blocks.{j}.norm1.{rest}', 'stages.{i}.blocks.{j}.norm1.{rest}'),
    ('layers.{i}.blocks.{j}.norm2.{rest}', 'stages.{i}.blocks.{j}.norm2.{rest}'),
    ('layers.{i}.downsample.{rest}', 'stages.{i}.downsample.{rest}'),
    ('norm{i}.{rest}', 'norm{i}.{rest}'),
)

_ROWS = (
    *((f'backbone.{a}', f'backbone.{b}') for a, b in (*_RESNET, *_SWIN)),
    *(
        (f'sem_seg_head.pixel_decoder.{a}', f'track_head.pixel_decoder.{b}')
        for a, b in _PIXEL_DECODER
    ),
    *((f'sem_seg_head.predictor.{a}', f'track_head.{b}') for a, b in _DECODER),
)

# mmdet's patch merging unfolds a 2x2 neighbourhood column by column, Swin's own row by row
_MERGE_ORDER = (0, 2, 1, 3)


def _compile(template: str) -> re.Pattern[str]:
    pattern = re.escape(template)
    for name, expression in (('i', r'\d+'), ('j', r'\d+'), ('rest', r'.+')):
        pattern = pattern.replace(re.escape(f'{{{name}}}'), f'(?P<{name}>{expression})')
    return re.compile(pattern)


def _renamer(rows: Iterable[tuple[str, str]]) -> Callable[[str], str | None]:
    compiled = [(_compile(source), target) for source, target in rows]

    def rename(name: str) -> str | None:
        for pattern, target in compiled:
            found = pattern.fullmatch(name)
            if found:
                return target.format(**found.groupdict())
        return None

    return rename


_to_ours = _renamer(_ROWS)
_to_official = _renamer((b, a) for a, b in _ROWS)


def _modernise(name: str) -> str:
    """Old Mask2Former files: no ``pixel_decoder.``, and another name for the query content."""
    name = name.replace('predictor.static_query.', 'predictor.query_feat.')
    head = 'sem_seg_head.'
    if name.startswith(head) and not name[len(head) :].startswith(('predictor.', 'pixel_decoder.')):
        name = f'{head}pixel_decoder.{name[len(head) :]}'
    return name


def _owner(name: str) -> tuple[str, str]:
    """Splits the teacher's mark off: ``backbone_t.x`` to (``teacher``, ``backbone.x``)."""
    top, _, rest = name.partition('.')
    if top.endswith('_t'):
        return 'teacher', f'{top[:-2]}.{rest}'
    return 'student', name


def _swap_merging(name: str, tensor: Tensor, inverse: bool) -> Tensor:
    """Reorders the input channels of Swin's patch merging between the two layouts."""
    if '.downsample.reduction.weight' not in name and '.downsample.norm.' not in name:
        return tensor
    if 'stages.' not in name and 'layers.' not in name:
        return tensor
    width = tensor.shape[-1] // 4
    lead = tensor.shape[:-1]
    if inverse:
        parts = tensor.reshape(*lead, width, 4).transpose(-1, -2)
    else:
        parts = tensor.reshape(*lead, 4, width)
    # the order is its own inverse
    parts = parts[..., list(_MERGE_ORDER), :]
    return (parts if inverse else parts.transpose(-1, -2)).reshape(tensor.shape).contiguous()


def official_to_ours(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Renames a released state dict.

    Args:
        state: released BoxVIS, Mask2Former, Mask2Former-VIS or MinVIS names.

    Returns:
        Ours, under ``student.`` and ``teacher.``, and what is no part of a network
        (``criterion.*``), by its old name.

    Raises:
        KeyError: names the tensors that have no place.
    """
    ours: dict[str, Tensor] = {}
    extras: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        if name.startswith('criterion.'):
            extras[name] = tensor
            continue
        owner, plain = _owner(name)
        renamed = _to_ours(_modernise(plain))
        if renamed is None:
            unknown.append(name)
        else:
            ours[f'{owner}.{renamed}'] = _swap_merging(renamed, tensor, inverse=False)
    if unknown:
        raise KeyError(
            f'{len(unknown)} tensors have no place in the network: {", ".join(unknown[:20])}'
            f'{" ..." if len(unknown) > 20 else ""}. Is this a Mask2Former-style checkpoint with a '
            'ResNet or Swin backbone?'
        )
    return ours, extras


def ours_to_official(
    state: dict[str, Tensor], extras: dict[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The inverse of :func:`official_to_ours`.

    Raises:
        KeyError: names the tensors that have no place in the released layout.
    """
    official: dict[str, Tensor] = {}
    unknown: list[str] = []
    for name, tensor in state.items():
        owner, _, plain = name.partition('.')
        renamed = _to_official(plain) if owner in ('student', 'teacher') else None
        if renamed is None:
            if not name.endswith('num_batches_tracked'):
                unknown.append(name)
            continue
        if owner == 'teacher':
            top, _, rest = renamed.partition('.')
            renamed = f'{top}_t.{rest}'
        official[renamed] = _swap_merging(renamed, tensor, inverse=True)
    if unknown:
        raise KeyError(f'no name in the released layout for {", ".join(unknown[:20])}')
    return {**official, **(extras or {})}


def strip_owner(state: dict[str, Tensor], owner: str) -> dict[str, Tensor]:
    """Takes the student or the teacher out of a state dict of ours, its tensors as they are."""
    prefix = f'{owner}.'
    return {name[len(prefix) :]: x for name, x in state.items() if name.startswith(prefix)}


def as_tensors(state: dict) -> dict[str, Tensor]:
    """Numpy arrays to tensors; tensors stay."""
    return {name: torch.as_tensor(value) for name, value in state.items()}
