from __future__ import annotations

import importlib.util
import itertools
import os
import pickle
import pickletools
import re
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from mmdet.models.backbones import SwinTransformer
from mmdet.models.layers import PatchMerging
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from torch import Tensor
from torch.nn import functional as F

from mmboxvis._cli import UsageError, require_fit
from mmboxvis.apis import convert_official, load_official, load_weights, official, to_official
from mmboxvis.apis.official import read_checkpoint, save_whole
from mmboxvis.apis.official_keys import official_to_ours, ours_to_official
from mmboxvis.models.vis import BoxVIS, base
from mmboxvis.registry import MODELS
from tests.models.tiny import make_boxvis, network_cfg

ROOT = Path(__file__).resolve().parents[2]
R50_KEYS = ROOT / 'tests/data/r50_keys.txt'
SWIN_L_KEYS = ROOT / 'tests/data/swin_l_keys.txt'


@pytest.fixture(scope='module')
def released(golden: Path) -> dict[str, Tensor]:
    return read_checkpoint(golden / 'official_tiny_r50.pkl')


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    path = ROOT / 'tools/model_converters/from_official.py'
    spec = importlib.util.spec_from_file_location('from_official', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_pkl(state: dict[str, Any], path: Path) -> Path:
    model = {name: np.asarray(value) for name, value in state.items()}
    path.write_bytes(pickle.dumps(dict(model=model, __author__='released')))
    return path


def assert_same_bits(state: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert state.keys() == other.keys()
    for name, tensor in state.items():
        assert tensor.dtype == other[name].dtype, name
        assert torch.equal(tensor, other[name]), name


class TestReading:
    def test_pickle_and_torch_file_are_read_alike(
        self, released: dict[str, Tensor], tmp_path: Path
    ) -> None:
        torch.save(dict(model=released, iteration=3), tmp_path / 'file.pth')
        assert_same_bits(read_checkpoint(tmp_path / 'file.pth'), released)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r'nothing\.pkl'):
            read_checkpoint(tmp_path / 'nothing.pkl')

    @pytest.mark.parametrize('suffix', ['.pkl', '.pth'])
    def test_broken_file_is_named(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f'broken{suffix}'
        path.write_bytes(b'no checkpoint')
        with pytest.raises(ValueError, match=path.name):
            read_checkpoint(path)

    @pytest.mark.parametrize('suffix', ['.pkl', '.pth'])
    def test_code_in_a_file_is_not_run(self, tmp_path: Path, suffix: str) -> None:
        trace = tmp_path / 'trace'

        class Malicious:
            def __reduce__(self) -> tuple:
                return os.system, (f'touch {trace}',)

        path = tmp_path / f'malicious{suffix}'
        content = dict(model={'backbone.stem.conv1.weight': Malicious()})
        if suffix == '.pkl':
            path.write_bytes(pickle.dumps(content))
        else:
            torch.save(content, path)
        with pytest.raises(
            ValueError, match=r'no readable checkpoint: .* (posix|nt)\.system'
        ) as error:
            read_checkpoint(path)
        assert 'weights_only' not in str(error.value)
        assert not trace.exists()

    @pytest.mark.parametrize('call', ['builtins.eval', 'numpy.load', 'torch.load', 'os.system'])
    def test_no_other_callable_is_admitted(self, tmp_path: Path, call: str) -> None:
        module, name = call.rsplit('.', 1)
        path = tmp_path / 'file.pkl'
        # GLOBAL, an argument, TUPLE1, REDUCE, STOP
        path.write_bytes(f"c{module}\n{name}\n(S'1'\ntR.".encode())
        with pytest.raises(ValueError, match=f'refused to load {call}'):
            read_checkpoint(path)

    def test_attributes_of_other_classes_are_not_admitted(self, tmp_path: Path) -> None:
        class Method:
            def __reduce__(self) -> tuple:
                return getattr, (np.ndarray, 'tofile')

        path = tmp_path / 'file.pth'
        torch.save(dict(model=dict(weight=Method())), path)
        with pytest.raises(ValueError, match='refused to load the attribute tofile'):
            read_checkpoint(path)

    @pytest.mark.parametrize('content', [{}, [], dict(model={}), dict(model=dict(a='text'))])
    def test_file_without_tensors(self, tmp_path: Path, content: Any) -> None:
        path = tmp_path / 'file.pkl'
        path.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=r'file\.pkl'):
            read_checkpoint(path)

    def test_other_layout(self, tmp_path: Path) -> None:
        path = write_pkl({'backbone.conv1.weight': np.zeros(2)}, tmp_path / 'file.pkl')
        with pytest.raises(ValueError, match=r'backbone\.conv1\.weight'):
            convert_official(path)


class TestNames:
    def test_round_trip_changes_no_bit(self, golden: Path, released: dict[str, Tensor]) -> None:
        converted = convert_official(golden / 'official_tiny_r50.pkl')
        assert_same_bits(to_official(converted), released)
        assert any(name.startswith('criterion.') for name in released)

    def test_other_round_trip(self) -> None:
        state = make_boxvis(network_cfg(depth=50)).state_dict()
        state = {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}
        ours, extras = official_to_ours(ours_to_official(state))
        assert_same_bits(ours, state)
        assert not extras

    def test_student_and_teacher_are_not_mixed_up(self, released: dict[str, Tensor]) -> None:
        ours, _ = official_to_ours(released)
        name = 'sem_seg_head{}.predictor.class_embed.weight'
        assert torch.equal(ours['student.track_head.cls_embed.weight'], released[name.format('')])
        assert torch.equal(ours['teacher.track_head.cls_embed.weight'], released[name.format('_t')])

    def test_full_size_r50_one_to_one(self) -> None:
        table = read_table(R50_KEYS)
        head = [name for name in table if name.startswith('sem_seg_head.')]
        assert len(head) == 292
        assert len(table) == 292 + 5 * (1 + 16 * 3 + 4)
        model = Config.fromfile(ROOT / 'configs/_base_/models/boxvis_r50.py').model
        with torch.device('meta'):
            network = MODELS.build(model.network)
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in network.state_dict().items()
            if not name.endswith('num_batches_tracked')
        }
        state = {name: torch.empty(shape, device='meta') for name, shape in table.items()}
        ours, extras = official_to_ours(state)
        assert not extras
        assert {k.removeprefix('student.'): tuple(v.shape) for k, v in ours.items()} == shapes
        back = ours_to_official(ours)
        assert {name: tuple(tensor.shape) for name, tensor in back.items()} == table

    def test_old_files(self, released: dict[str, Tensor]) -> None:
        head = 'sem_seg_head.pixel_decoder.'
        old = {}
        for name, tensor in released.items():
            if name.startswith(head):
                name = name.replace(head, 'sem_seg_head.')
            old[name.replace('predictor.query_feat.', 'predictor.static_query.')] = tensor
        assert len(old.keys() - released.keys()) > 10
        assert_same_bits(official_to_ours(old)[0], official_to_ours(released)[0])

    def test_tensors_without_a_place_are_named(self, released: dict[str, Tensor]) -> None:
        with pytest.raises(KeyError, match=r'sem_seg_head\.predictor\.surplus'):
            official_to_ours({**released, 'sem_seg_head.predictor.surplus': torch.zeros(1)})
        with pytest.raises(KeyError, match=r'student\.neck\.weight'):
            ours_to_official({'student.neck.weight': torch.zeros(1)})


def read_table(path: Path) -> dict[str, tuple[int, ...]]:
    """Writes the rows of a table of tensor names out."""
    table = {}
    for line in path.read_text().splitlines():
        if line.startswith('#'):
            continue
        template, *shape = line.split()
        choices = []
        for field in re.findall(r'\{(.+?)\}', template):
            numbers = re.fullmatch(r'(\d+)-(\d+)', field)
            choices.append(
                [str(i) for i in range(int(numbers[1]), int(numbers[2]) + 1)]
                if numbers
                else field.split(',')
            )
        blank = re.sub(r'\{.+?\}', '{}', template)
        for values in itertools.product(*choices):
            name = blank.format(*values)
            assert name not in table
            table[name] = tuple(int(side) for side in shape)
    return table


def merge_patches(
    maps: Tensor, norm_weight: Tensor, norm_bias: Tensor, reduction: Tensor
) -> Tensor:
    """Swin's own patch merging of (B, C, H, W) maps with even sides."""
    x = maps.permute(0, 2, 3, 1)
    corners = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    joined = torch.cat(corners, -1).flatten(1, 2)
    return F.layer_norm(joined, joined.shape[-1:], norm_weight, norm_bias) @ reduction.T


class TestSwin:
    @pytest.fixture(scope='class')
    def swin_cfg(self) -> dict[str, Any]:
        return dict(
            embed_dims=24,
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
            window_size=4,
            mlp_ratio=4,
            out_indices=(0, 1, 2, 3),
        )

    def test_round_trip_changes_no_bit(self, swin_cfg: dict[str, Any]) -> None:
        state = {
            f'student.backbone.{name}': tensor if 'index' in name else torch.randn_like(tensor)
            for name, tensor in SwinTransformer(**swin_cfg).state_dict().items()
        }
        official = ours_to_official(state)
        assert 'backbone.layers.0.blocks.1.attn.relative_position_index' in official
        assert 'backbone.layers.2.downsample.reduction.weight' in official
        assert not any(re.search(r'stages|w_msa|ffn|projection', name) for name in official)
        ours, _ = official_to_ours(official)
        assert_same_bits(ours, state)

    def test_full_size_swin_l_one_to_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        table = read_table(SWIN_L_KEYS)
        assert len(table) == 24 * 14 + 4 + 3 * 3 + 4 * 2
        heads = {name for name in read_table(R50_KEYS) if name.startswith('sem_seg_head.')}
        model = Config.fromfile(ROOT / 'configs/_base_/models/boxvis_swin_l.py').model
        linspace = torch.linspace  # Swin reads its drop-path rates off a tensor
        monkeypatch.setattr(torch, 'linspace', lambda *a, **kw: linspace(*a, **kw, device='cpu'))
        with torch.device('meta'):
            network = MODELS.build(model.network)
        official = ours_to_official({f'student.{k}': v for k, v in network.state_dict().items()})
        assert official.keys() == heads | table.keys()
        for name, shape in table.items():
            assert tuple(official[name].shape) == shape, name
        back, _ = official_to_ours(official)
        assert back.keys() == {f'student.{name}' for name in network.state_dict()}

    def test_patch_merging_gives_the_same_numbers(self) -> None:
        channels = 6
        norm_weight, norm_bias = torch.randn(2, 4 * channels).unbind(0)
        reduction = torch.randn(2 * channels, 4 * channels)
        prefix = 'layers.1.downsample.'
        converted, _ = official_to_ours(
            {
                f'backbone.{prefix}norm.weight': norm_weight,
                f'backbone.{prefix}norm.bias': norm_bias,
                f'backbone.{prefix}reduction.weight': reduction,
            }
        )
        merging = PatchMerging(channels, 2 * channels)
        ours_prefix = 'student.backbone.stages.1.downsample.'
        merging.load_state_dict({k.removeprefix(ours_prefix): v for k, v in converted.items()})
        maps = torch.randn(2, channels, 8, 6)
        ours, size = merging(maps.flatten(2).transpose(1, 2), (8, 6))
        assert tuple(size) == (4, 3)
        wanted = merge_patches(maps, norm_weight, norm_bias, reduction)
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-5)

    def test_sizes_are_read_off_the_tensors(self, swin_cfg: dict[str, Any], tmp_path: Path) -> None:
        network = network_cfg(num_heads=8)
        network['backbone'] = dict(type='SwinTransformer', **swin_cfg)
        network['track_head']['in_channels'] = [24, 48, 96, 192]
        model = make_boxvis(network).eval()
        path = write_pkl(
            {**ours_to_official(model.state_dict()), 'criterion._iter': torch.zeros(1)},
            tmp_path / 'swin.pkl',
        )
        loaded = load_official(path)
        assert_same_bits(loaded.state_dict(), model.state_dict())
        clip = torch.rand(2, 3, 64, 64) * 255
        torch.testing.assert_close(
            loaded.predict_clip(clip)[-1].mask_logits, model.predict_clip(clip)[-1].mask_logits
        )


class TestLoading:
    def test_every_tensor_is_used(self, golden: Path, released: dict[str, Tensor]) -> None:
        model = load_official(golden / 'official_tiny_r50.pkl')
        assert isinstance(model, BoxVIS)
        assert not any(module.training for module in model.modules())
        state = {
            name: tensor
            for name, tensor in model.state_dict().items()
            if not name.endswith('num_batches_tracked')
        }
        network = {k: v for k, v in released.items() if not k.startswith('criterion.')}
        assert_same_bits(ours_to_official(state), network)
        assert not model.student.track_head.decoder_positional_encoding.paired_frequencies

    def test_other_files_have_the_common_position_code(
        self, released: dict[str, Tensor], tmp_path: Path
    ) -> None:
        state = {
            name: tensor
            for name, tensor in released.items()
            if '_t.' not in name and name != 'criterion._iter'
        }
        model = load_official(write_pkl(state, tmp_path / 'mask2former.pkl'))
        assert model.student.track_head.decoder_positional_encoding.paired_frequencies
        assert_same_bits(model.teacher.state_dict(), model.student.state_dict())

    @pytest.mark.parametrize('scope', [None, 'mmdet', 'mmengine', 'mmboxvis'])
    def test_works_whatever_the_default_scope(
        self, golden: Path, monkeypatch: pytest.MonkeyPatch, scope: str | None
    ) -> None:
        monkeypatch.setattr(DefaultScope, '_instance_dict', OrderedDict())
        if scope:
            DefaultScope.get_instance('test', scope_name=scope)
        assert isinstance(load_official(golden / 'official_tiny_r50.pkl'), BoxVIS)

    @pytest.mark.parametrize(
        'name',
        [
            'backbone.res3.1.conv2.weight',
            'sem_seg_head.pixel_decoder.adapter_1.norm.bias',
            'sem_seg_head.predictor.class_embed.bias',
            'sem_seg_head.predictor.query_feat.weight',
            'sem_seg_head_t.predictor.decoder_norm.weight',
        ],
    )
    def test_missing_tensors_are_named(
        self, released: dict[str, Tensor], tmp_path: Path, name: str
    ) -> None:
        state = {key: value for key, value in released.items() if key != name}
        path = write_pkl(state, tmp_path / 'incomplete.pkl')
        ours = next(iter(official_to_ours({name: released[name]})[0]))
        with pytest.raises(ValueError, match=re.escape(ours)) as error:
            load_official(path)
        assert 'incomplete.pkl' in str(error.value)

    def test_left_over_tensors_are_named(self, released: dict[str, Tensor], tmp_path: Path) -> None:
        name = 'sem_seg_head.predictor.surplus.weight'
        path = write_pkl({**released, name: torch.zeros(2)}, tmp_path / 'surplus.pkl')
        with pytest.raises(ValueError, match=re.escape(name)) as error:
            load_official(path)
        assert 'surplus.pkl' in str(error.value)

    def test_tensors_of_a_wrong_shape_are_named(
        self, released: dict[str, Tensor], tmp_path: Path
    ) -> None:
        name = 'sem_seg_head.pixel_decoder.layer_1.weight'
        state = {**released, name: released[name][:, :-1]}
        path = write_pkl(state, tmp_path / 'narrow.pkl')
        with pytest.raises(ValueError, match=r'output_convs\.0\.conv\.weight') as error:
            load_official(path)
        assert 'narrow.pkl' in str(error.value)


class TestTool:
    def test_both(self, tool: ModuleType, golden: Path, tmp_path: Path) -> None:
        source, target = golden / 'official_tiny_r50.pkl', tmp_path / 'new' / 'ours.pth'
        assert tool.main([str(source), str(target)]) == 0
        assert os.listdir(target.parent) == ['ours.pth']
        model = load_official(source)
        other = make_tiny_r50()
        load_checkpoint(other, str(target), map_location='cpu', strict=True)
        assert_same_bits(other.state_dict(), model.state_dict())
        assert other.teacher_loaded

    @pytest.mark.parametrize('which', ['student', 'teacher'])
    def test_one_network(self, tool: ModuleType, golden: Path, tmp_path: Path, which: str) -> None:
        source, target = golden / 'official_tiny_r50.pkl', tmp_path / 'ours.pth'
        assert tool.main([str(source), str(target), '--which', which]) == 0
        other = make_tiny_r50()
        load_checkpoint(other, str(target), map_location='cpu', strict=True)
        wanted = getattr(load_official(source), which).state_dict()
        assert_same_bits(other.student.state_dict(), wanted)
        assert_same_bits(other.teacher.state_dict(), wanted)
        assert not other.teacher_loaded

    @pytest.mark.parametrize('suffix', ['.pkl', '.pth'])
    def test_reverse(
        self,
        tool: ModuleType,
        golden: Path,
        released: dict[str, Tensor],
        tmp_path: Path,
        suffix: str,
    ) -> None:
        source, ours = golden / 'official_tiny_r50.pkl', tmp_path / 'ours.pth'
        assert tool.main([str(source), str(ours)]) == 0
        target = tmp_path / f'back{suffix}'
        assert tool.main(['--reverse', str(ours), str(target)]) == 0
        assert_same_bits(read_checkpoint(target), released)

    def test_reverse_of_a_training_checkpoint(self, tool: ModuleType, tmp_path: Path) -> None:
        hub = MessageHub('training')
        hub.update_scalar('loss', 1.5)
        model = make_boxvis(network_cfg(depth=50))
        checkpoint = dict(
            state_dict=model.state_dict(),
            message_hub=hub.state_dict(),
            meta=dict(iter=5, seed=np.int64(3)),
            optimizer=torch.optim.AdamW(model.student.parameters()).state_dict(),
        )
        torch.save(checkpoint, tmp_path / 'iter_5.pth')
        target = tmp_path / 'released.pkl'
        assert tool.main(['--reverse', str(tmp_path / 'iter_5.pth'), str(target)]) == 0
        assert_same_bits(read_checkpoint(target), ours_to_official(model.state_dict()))

    def test_classes_can_be_left_out(self, tool: ModuleType, golden: Path, tmp_path: Path) -> None:
        source, target = golden / 'official_tiny_r50.pkl', tmp_path / 'ours.pth'
        assert tool.main([str(source), str(target), '--drop-classes']) == 0
        state = torch.load(target, weights_only=True)['state_dict']
        whole = convert_official(source)['state_dict']
        assert whole.keys() - state.keys() == {
            f'{owner}.track_head.cls_embed.{name}'
            for owner in ('student', 'teacher')
            for name in ('weight', 'bias')
        }

    def test_classes_of_coco_are_left_out_and_come_back(
        self,
        tool: ModuleType,
        released: dict[str, Tensor],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Mask2Former for COCO instances: what everything is trained from."""
        state = {k: v for k, v in released.items() if '_t.' not in k and k != 'criterion._iter'}
        for name, shape in (('weight', (81, 64)), ('bias', (81,))):
            state[f'sem_seg_head.predictor.class_embed.{name}'] = torch.rand(shape)
        source = str(write_pkl(state, tmp_path / 'coco.pkl'))
        ours, back = str(tmp_path / 'ours.pth'), str(tmp_path / 'back.pkl')
        assert tool.main([source, ours]) == 0
        assert 'left out: the class layer of 80 classes' in capsys.readouterr().out
        model = make_tiny_r50()
        first = model.student.track_head.cls_embed.weight.clone()
        result = model.load_state_dict(torch.load(ours, weights_only=True)['state_dict'], False)
        assert not result.unexpected_keys
        assert all('cls_embed' in key or 'batches' in key for key in result.missing_keys)
        assert torch.equal(model.student.track_head.cls_embed.weight, first)
        assert tool.main(['--reverse', ours, back]) == 0
        assert_same_bits(read_checkpoint(back), state)
        assert tool.main([source, ours, '--keep-classes']) == 0
        assert 'left out' not in capsys.readouterr().out
        assert load_official(source).student.track_head.cls_embed.out_features == 81

    def test_checkpoints_of_mmdet_need_no_conversion(
        self, tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = tmp_path / 'mmdet.pth'
        model = make_boxvis()
        state = {
            name.replace('track_head.', 'panoptic_head.'): tensor
            for name, tensor in model.student.state_dict().items()
        }
        torch.save(dict(state_dict=state), source)
        assert tool.main([str(source), str(tmp_path / 'ours.pth')]) == 1
        told = capsys.readouterr().err
        assert 'tools/infer.py (--config) take such a file as it is' in told
        require_fit(model, str(source))
        load_weights(make_boxvis(), source)
        del state['panoptic_head.cls_embed.bias']
        torch.save(dict(state_dict=state), source)
        with pytest.raises(UsageError, match=r'student\.track_head\.cls_embed\.bias'):
            require_fit(model, str(source))

    def test_a_file_is_read_once(self, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read, real = [], official._read_safely
        monkeypatch.setattr(official, '_read_safely', lambda path: read.append(path) or real(path))
        source = golden / 'official_tiny_r50.pkl'
        load_weights(make_tiny_r50(), source)
        assert read == [source]

    def test_the_position_code_has_to_be_that_of_the_file(
        self,
        tool: ModuleType,
        golden: Path,
        released: dict[str, Tensor],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Nothing else tells the files of Mask2Former-VIS from those of BoxVIS."""
        model, ours = make_tiny_r50(), str(tmp_path / 'ours.pth')
        assert tool.main([str(golden / 'official_tiny_r50.pkl'), ours]) == 0
        assert 'paired_frequencies=False' in capsys.readouterr().out
        require_fit(model, ours)
        state = {k: v for k, v in released.items() if '_t.' not in k and k != 'criterion._iter'}
        source = str(write_pkl(state, tmp_path / 'mask2former_vis.pkl'))
        assert tool.main([source, ours]) == 0
        assert 'paired_frequencies=True' in capsys.readouterr().out
        setting = r'positional_encoding\.paired_frequencies=True in the config'
        with pytest.raises(UsageError, match=setting):
            require_fit(model, ours)
        for path in (ours, source):
            with pytest.raises(ValueError, match=setting):
                load_weights(model, path)
        model.student.track_head.decoder_positional_encoding.paired_frequencies = True
        require_fit(model, ours)
        load_weights(model, source)
        # a student of BoxVIS alone
        assert tool.main([source, ours, '--boxvis']) == 0
        require_fit(make_tiny_r50(), ours)

    def test_released_files_are_to_be_converted(self, golden: Path) -> None:
        with pytest.raises(UsageError, match=r'released layout: convert it with .*from_official'):
            require_fit(make_tiny_r50(), str(golden / 'official_tiny_r50.pkl'))

    def test_reverse_takes_no_other_option(
        self, tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for options in (['--which', 'student'], ['--drop-classes'], ['--keep-classes']):
            with pytest.raises(SystemExit):
                tool.main(['--reverse', 'ours.pth', str(tmp_path / 'back.pkl'), *options])
            assert 'takes no other option' in capsys.readouterr().err

    def test_a_folder_as_target_is_one_line(
        self, tool: ModuleType, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        source = str(golden / 'official_tiny_r50.pkl')
        assert tool.main([source, str(tmp_path)]) == 1
        assert f'error: {tmp_path} cannot be written: it is a folder' in capsys.readouterr().err
        assert tool.main([source, str(tmp_path / 'ours.pth')]) == 0
        assert tool.main(['--reverse', str(tmp_path / 'ours.pth'), str(tmp_path)]) == 1
        assert 'it is a folder' in capsys.readouterr().err

    def test_pickles_name_nothing_that_numpy_1_lacks(self, tmp_path: Path) -> None:
        save_whole(
            {'a': torch.rand(3), 'b': torch.zeros((), dtype=torch.int64)}, tmp_path / 'a.pkl'
        )
        names = {
            argument
            for code, argument, _ in pickletools.genops((tmp_path / 'a.pkl').read_bytes())
            if 'GLOBAL' in code.name
        }
        assert names == {'numpy.core.multiarray _reconstruct', 'numpy ndarray', 'numpy dtype'}
        assert read_checkpoint(tmp_path / 'a.pkl').keys() == {'a', 'b'}

    @pytest.mark.parametrize('reverse', [False, True])
    def test_bad_source_is_one_line_of_error(
        self,
        tool: ModuleType,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        reverse: bool,
    ) -> None:
        (tmp_path / 'broken.pkl').write_bytes(b'text')
        for source in ('missing.pkl', 'broken.pkl'):
            arguments = [str(tmp_path / source), str(tmp_path / 'ours.pth')]
            assert tool.main(['--reverse', *arguments] if reverse else arguments) == 1
            message = capsys.readouterr().err.strip()
            assert source in message
            assert '\n' not in message
        assert not (tmp_path / 'ours.pth').exists()

    def test_a_file_that_cannot_be_written_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(Exception, match='pickle'):
            save_whole(dict(state_dict=lambda: None), tmp_path / 'ours.pth')
        assert not list(tmp_path.iterdir())


def make_tiny_r50() -> BoxVIS:
    """A BoxVIS of the size of the released tiny file, from its config alone."""
    network = network_cfg(
        depth=50,
        num_queries=12,
        num_classes=40,
        channels=64,
        num_heads=8,
        encoder_layers=2,
        encoder_ffn=1024,
        decoder_layers=3,
        decoder_ffn=128,
    )
    return make_boxvis(network).eval()


class TestMMDetCheckpoints:
    """Mask2Former as mmdet keeps it, trained on the 80 classes of COCO."""

    @pytest.fixture
    def coco_state(self) -> dict[str, Tensor]:
        student = make_boxvis(network_cfg(num_classes=80)).student.state_dict()
        return {
            name.replace('track_head.', 'panoptic_head.'): torch.rand_like(tensor)
            for name, tensor in student.items()
            if tensor.is_floating_point()
        }

    @pytest.mark.parametrize('prefix', ['', 'student.'])
    def test_loads_into_student_and_teacher(
        self,
        coco_state: dict[str, Tensor],
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        prefix: str,
    ) -> None:
        lines: list[str] = []
        monkeypatch.setattr(base, 'print_log', lambda line, **_: lines.append(line))
        path = tmp_path / 'coco.pth'
        torch.save(dict(state_dict={f'{prefix}{k}': v for k, v in coco_state.items()}), path)
        model = make_boxvis()
        before = {k: v.clone() for k, v in model.student.state_dict().items()}
        load_checkpoint(model, str(path), map_location='cpu')
        after = model.student.state_dict()
        for name, tensor in coco_state.items():
            name = name.replace('panoptic_head.', 'track_head.')
            wanted = before[name] if '.cls_embed.' in name else tensor
            assert torch.equal(after[name], wanted), name
        assert_same_bits(model.teacher.state_dict(), after)
        assert not model.teacher_loaded
        assert any(
            'student.track_head.cls_embed.weight' in line and '81' in line and '5' in line
            for line in lines
        )

    def test_caller_keeps_its_dict(self, coco_state: dict[str, Tensor]) -> None:
        names = list(coco_state)
        missing, unexpected = make_boxvis().load_state_dict(coco_state, strict=False)
        assert list(coco_state) == names
        assert not unexpected
        assert all('cls_embed' in name or 'num_batches' in name for name in missing)

    def test_model_without_a_teacher_leaves_the_teacher_out(self) -> None:
        state = make_boxvis().state_dict()
        model = make_boxvis(pseudo_masks=None)
        assert model.load_state_dict(state, strict=True)
        assert model.teacher is None
        for name, tensor in model.student.state_dict().items():
            assert torch.equal(tensor, state[f'student.{name}'])

    def test_teacher_of_the_file_stays_its_own(self) -> None:
        source, model = make_boxvis(), make_boxvis()
        torch.nn.init.ones_(source.teacher.track_head.query_feat.weight)
        model.load_state_dict(source.state_dict())
        assert model.teacher_loaded
        assert (model.teacher.track_head.query_feat.weight == 1).all()
        assert_same_bits(model.state_dict(), source.state_dict())
