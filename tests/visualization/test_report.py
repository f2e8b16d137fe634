"""The HTML report: what is in it, that nothing is outside of it, and what a browser makes of it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mmboxvis.evaluation.functional import evaluate_vis, read_ground_truth
from mmboxvis.visualization import write_report
from mmboxvis.visualization._report_clips import _runs
from mmboxvis.visualization.report import rank_videos
from tests.visualization.sample import NUM_FRAMES, SIZE, links_to, track

TOOL = Path(__file__).resolve().parents[2] / 'tools/analysis_tools/html_report.py'
HOSTILE = '</script><script>document.title = "broken"</script> & "dog"'
BROWSER = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
# what a user does: step to frame 3, point at the object on the right in the results
USE = """<script>
addEventListener('load', () => {
  const article = document.querySelector('.clip');
  const slider = article.querySelector('input');
  slider.value = 3;
  slider.dispatchEvent(new Event('input'));
  const image = article.querySelectorAll('img')[1];
  const box = image.getBoundingClientRect();
  const at = (x, y) => ({clientX: box.left + x * box.width, clientY: box.top + y * box.height});
  image.dispatchEvent(new MouseEvent('mousemove', at(0.65, 0.35)));
  document.body.dataset.pointed = document.getElementById('tip').textContent;
  image.dispatchEvent(new MouseEvent('mousemove', at(0.65, 0.95)));
  document.body.dataset.hidden = document.getElementById('tip').hidden;
  image.decode().then(() => { document.body.dataset.shown = image.naturalWidth; });
  document.body.dataset.same = image.src === data.videos[0].panels[1].pictures[3];
  const select = document.getElementById('class');
  select.value = 'cat';
  select.dispatchEvent(new Event('change'));
});
</script></body>"""
LOG = [
    dict(loss=3.0, loss_cls=1.0, **{'d0.loss_cls': 2.0}, lr=0.1, step=10),
    dict(loss=2.0, loss_cls=0.5, **{'d0.loss_cls': 1.0}, lr=0.1, step=20),
    {'val/AP': 0.25, 'step': 20},
]


def write(data: dict, **options: object) -> str:
    path = write_report(
        data['root'], data['instances'], data['results'], data['out'] / 'a.html', **options
    )
    return path.read_text(encoding='utf-8')


def embedded(page: str) -> dict:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert match is not None
    return json.loads(match[1])


def test_without_results(data: dict) -> None:
    page = write({**data, 'results': []})
    content = embedded(page)
    assert [video['name'] for video in content['videos']] == ['first']
    assert not any(any(runs[::2]) for runs in content['videos'][0]['panels'][1]['maps'])
    assert '<dt>AP</dt><dd>0.0</dd>' in page and '+100.0' in page


def test_without_annotations(data: dict) -> None:
    instances = dict(data['instances'], annotations=[])
    page = write({**data, 'instances': instances, 'results': []})
    assert embedded(page)['videos'] == [] and 'No video to show.' in page
    assert '<dt>AP</dt><dd>-</dd>' in page and 'No annotation to find.' in page


def test_content(data: dict) -> None:
    log = data['root'].parent / 'scalars.json'
    log.write_text('\n'.join(map(json.dumps, LOG)))
    content = embedded(write(data, log=log, frames_per_video=3))
    (video,) = content['videos']
    assert (video['group'], video['steps']) == ('worst', [0, 2, 4])
    truth, result = video['panels']
    assert [t['caption'] for t in truth['tracks']] == ['annotation 1: cat', 'annotation 2: dog']
    # the query that stands under two classes is drawn once, and so is the faint one not at all
    assert [t['caption'].split(':')[0] for t in result['tracks']] == ['result 0', 'result 2']
    assert all('best IoU 1.00, no error' in t['caption'] for t in result['tracks'])
    assert truth['tracks'][0]['color'] == result['tracks'][1]['color']
    for panel in (truth, result):
        assert len(panel['pictures']) == len(panel['maps']) == 3
        assert all(sum(runs[1::2]) == SIZE[0] * SIZE[1] for runs in panel['maps'])
        assert panel['maps'][1] == [0, SIZE[0] * SIZE[1]]
    precision = {name: c['IoU 0.50'][0] for name, c in content['precision'].items()}
    assert precision == {'': 0.75, 'cat': 0.5, 'dog': 1.0}
    assert [chart['name'] for chart in content['training']] == ['loss', 'AP']
    assert list(content['training'][0]['series']) == ['loss', 'loss_cls']
    assert content['training'][1]['series'] == {'AP': [[20.0], [0.25]]}


def test_curves_of_one_name_stay_apart(data: dict) -> None:
    log = data['root'].parent / 'scalars.json'
    lines = [*LOG[:2], {'ytvis/AP': 0.4, 'ovis/AP': 0.1, 'step': 20}]
    log.write_text('\n'.join(map(json.dumps, lines)))
    data['instances']['categories'] = [dict(id=3, name='cat'), dict(id=7, name='cat')]
    content = embedded(write(data, log=log))
    precision = {name: c['IoU 0.50'][0] for name, c in content['precision'].items()}
    assert precision == {'': 0.75, 'cat': 0.5, 'cat_7': 1.0}
    wanted = {'ytvis/AP': [[20.0], [0.4]], 'ovis/AP': [[20.0], [0.1]]}
    assert content['training'][1]['series'] == wanted


def test_nothing_is_outside_and_names_are_only_text(data: dict) -> None:
    data['instances']['categories'] = [dict(id=3, name='cat'), dict(id=7, name=HOSTILE)]
    page = write(data, title=HOSTILE)
    assert '<script>document.title' not in page and 'document.title = &#34;broken' in page
    links = re.findall(r'(?:src|href|action)="([^"]*)"|url\(([^)]*)\)|@import', page)
    assert links and all(link.startswith('data:') for link, _ in links)
    assert "default-src 'none'" in page


def test_boxes_only(data: dict) -> None:
    masks = [{k: v for k, v in track(1, 3, 2, score=0.9).items() if k != 'bboxes'}]
    content = embedded(write({**data, 'instances': data['boxes'], 'results': masks}))
    truth = content['videos'][0]['panels'][0]
    assert set(truth['maps'][0][::2]) == {0, 1, 2}


def test_scores_as_it_is_asked_to(data: dict) -> None:
    """As a VISMetric scores: its videos alone, its kind of shapes, categories as one."""
    data['instances']['annotations'] = [track(1, 3, 2), track(1, 7, 30), track(2, 7, 2)]
    gt, results = data['instances'], data['results']
    wanted = evaluate_vis(gt, results, class_agnostic=True, iou_type='box')['AP']
    page = write(data, class_agnostic=True, iou_type='box')
    assert f'<dt>AP</dt><dd>{100 * wanted:.1f}</dd>' in page and 'boxes' in page
    content = embedded(page)
    assert set(content['precision']) == {'', 'object'}
    first = next(video for video in content['videos'] if video['name'] == 'first')
    captions = [t['caption'] for panel in first['panels'] for t in panel['tracks']]
    assert captions[0].endswith('object') and all('object' in caption for caption in captions)

    alone = dict(gt, annotations=gt['annotations'][:2], videos=gt['videos'][:1])
    wanted = evaluate_vis(alone, results)['AP']
    assert wanted != evaluate_vis(gt, results)['AP']
    page = write(data, videos=['first'])
    assert f'<dt>AP</dt><dd>{100 * wanted:.1f}</dd>' in page
    assert [video['name'] for video in embedded(page)['videos']] == ['first']


def test_ranking(data: dict) -> None:
    gt = dict(data['instances'])
    gt['annotations'] = [track(1, 3, 2), track(2, 3, 2)]
    results = [track(2, 3, 2, score=0.5), track(1, 7, 2, score=0.5)]
    assert rank_videos(read_ground_truth(gt), results) == [(1, 0.0), (2, 1.0)]
    content = embedded(write({**data, 'instances': gt, 'results': results}, num_videos=1))
    assert [(v['group'], v['name']) for v in content['videos']] == [
        ('worst', 'first'),
        ('best', 'second'),
    ]
    assert embedded(write({**data, 'instances': gt}, num_videos=0))['videos'] == []


@pytest.mark.parametrize('values', [[], [0], [0, 0, 2, 2, 2, 0], [1, 2, 3]])
def test_runs(values: list[int]) -> None:
    runs = _runs(np.array(values, np.int64))
    assert np.repeat(runs[::2], runs[1::2]).tolist() == values


@pytest.mark.skipif(BROWSER is None, reason='no Chromium here (apt-get install chromium)')
def test_in_a_browser(data: dict, tmp_path: Path) -> None:
    log = tmp_path / 'scalars.json'
    log.write_text('\n'.join(map(json.dumps, LOG)))
    data['instances']['categories'] = [dict(id=3, name='cat'), dict(id=7, name=HOSTILE)]
    page = tmp_path / 'used.html'
    page.write_text(write(data, log=log, title='A run').replace('</body>', USE), encoding='utf-8')
    command = [str(BROWSER), '--headless', '--no-sandbox', '--disable-gpu', '--dump-dom']
    # a proxy that is not there: whoever asked the network would fail
    command += ['--proxy-server=127.0.0.1:9', f'--user-data-dir={tmp_path / "profile"}']
    command += ['--virtual-time-budget=2000', page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-ready="yes"' in dom, 'the script ran to its end'
    assert '<title>A run</title>' in dom
    assert dom.count('class="clip"') == 1 and dom.count('<img') == 2
    assert f'data-frame="{NUM_FRAMES - 2}"' in dom and '<output>frame 3</output>' in dom
    body = re.search(r'<body[^>]*>', dom)
    assert body is not None
    assert 'result 0: &lt;/script' in body[0].replace('</', '&lt;/') and 'score 0.90' in body[0]
    assert 'data-hidden="true"' in body[0] and 'data-same="true"' in body[0]
    assert 'data-shown="320"' in body[0], 'the picture was decoded'
    # three lines of precision; loss with one term; AP
    assert dom.count('<polyline') == 3 + 2 + 1


def test_tool(data: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    spec = importlib.util.spec_from_file_location('html_report', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gt, run = data['root'].parent / 'gt.json', data['root'].parent / 'run.json'
    gt.write_text(json.dumps(data['instances']))
    run.write_text(json.dumps(data['results']))
    out = data['out'] / 'a.html'
    assert module.main([str(gt), str(run), str(data['root']), '--out', str(out)]) == 0
    assert out.is_file() and 'wrote' in capsys.readouterr().out
    linked = links_to(data['root'], tmp_path / 'links')
    command = [str(gt), str(run), str(tmp_path / 'links'), '--out', str(out)]
    assert module.main([*command, '--linked', *linked]) == 0
    assert module.main(command) == 1
    assert 'goes through a link' in capsys.readouterr().err
    for wrong, message in (
        ([str(gt), str(run) + 'x', str(data['root'])], 'no such file'),
        ([str(run), str(run), str(data['root'])], "expected an object with 'videos'"),
        ([str(gt), str(run), '/nowhere'], 'does not exist'),
        ([str(gt), str(run), str(data['root']), '--frames', '0'], 'frames_per_video'),
        ([str(gt), str(run), str(data['root']), '--log', '/nowhere'], 'scalars.json'),
    ):
        assert module.main([*wrong, '--out', str(out)]) == 1
        assert message in capsys.readouterr().err
