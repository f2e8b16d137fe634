"""Errors of tracks by kind, and the gain of mending one: the files are edited and scored again."""

from __future__ import annotations

from typing import Any

from . import vis_eval as plain

Track = dict[str, Any]
KINDS = (
    'classification',
    'mask_quality',
    'association',
    'class_and_mask',
    'duplicate',
    'background',
    'missed',
)


def close_iou(a: list, b: list, least: float) -> float:
    """IoU over the frames in which the two masks have an IoU of at least ``least``."""
    frames = [t for t in range(len(a)) if plain.mask_iou([a[t]], [b[t]]) >= least]
    return plain.mask_iou([a[t] for t in frames], [b[t] for t in frames])


def ap_at(gt: dict, results: list[Track], threshold: float, categories: set[int]) -> float:
    """AP at one threshold; of the categories given, one with nothing to find has 1."""
    video_ids = sorted(video['id'] for video in gt['videos'])
    scores = []
    for category in categories:
        compared = [plain.compare(gt, results, i, category, 'segm') for i in video_ids]
        found = plain.score_category(compared, 'all', threshold, 'segm')
        scores.append(1.0 if found is None else sum(found[0]) / 101)
    return sum(scores) / len(scores) if scores else -1.0


def find_matches(gt: dict, results: list[Track], threshold: float) -> tuple[dict, set[int]]:
    """What each result hits (annotation or ``None``), by greedy matching; and annotations hit."""
    hit: dict[int, int | None] = {}
    taken: set[int] = set()
    for r in sorted(range(len(results)), key=lambda r: -results[r]['score']):
        best, best_key = None, None
        for a, track in enumerate(gt['annotations']):
            if (track['video_id'], track['category_id']) != (
                results[r]['video_id'],
                results[r]['category_id'],
            ):
                continue
            if a in taken and not track.get('iscrowd'):
                continue
            iou = plain.mask_iou(results[r]['segmentations'], track['segmentations'])
            key = (not track.get('iscrowd'), iou, a)
            if iou >= min(threshold, 1 - 1e-10) and (best_key is None or key > best_key):
                best, best_key = a, key
        hit[r] = best
        if best is not None:
            taken.add(best)
    return hit, taken


def kind_of(gt: dict, result: Track, threshold: float, least: float) -> tuple[str, int]:
    """Kind of error of a result that is wrong, and the annotation concerned (-1 for none)."""
    own, other = (0.0, -1), (0.0, -1)
    for a, track in enumerate(gt['annotations']):
        if track['video_id'] != result['video_id'] or track.get('iscrowd'):
            continue
        iou = plain.mask_iou(result['segmentations'], track['segmentations'])
        if track['category_id'] == result['category_id']:
            own = max(own, (iou, a), key=lambda pair: pair[0])
        else:
            other = max(other, (iou, a), key=lambda pair: pair[0])
    if own[0] >= threshold:
        return 'duplicate', own[1]
    if other[0] >= threshold:
        return 'classification', other[1]
    if own[0] >= least:
        masks = gt['annotations'][own[1]]['segmentations']
        good = close_iou(result['segmentations'], masks, least) >= threshold
        return ('association' if good else 'mask_quality'), own[1]
    if other[0] >= least:
        return 'class_and_mask', other[1]
    return 'background', -1


def analyse(
    gt: dict, results: list[Track], threshold: float, least: float = 0.1
) -> tuple[float, dict[str, float], dict[str, int]]:
    """AP at a threshold, gain of each kind, number of errors of each kind."""
    categories = {track['category_id'] for track in gt['annotations'] if not track.get('iscrowd')}
    hit, taken = find_matches(gt, results, threshold)
    errors = {
        r: kind_of(gt, results[r], threshold, least) for r, target in hit.items() if target is None
    }
    fixable = {a for kind, a in errors.values() if kind in KINDS[:3]}
    missed = {
        a
        for a, track in enumerate(gt['annotations'])
        if not track.get('iscrowd') and a not in taken | fixable
    }
    before = ap_at(gt, results, threshold, categories)
    gains = {}
    for kind in KINDS:
        new_gt = gt
        if kind == 'missed':
            left = [track for a, track in enumerate(gt['annotations']) if a not in missed]
            new_gt = dict(gt, annotations=left)
        edited = edit(
            gt, results, {r: e[1] for r, e in errors.items() if e[0] == kind}, kind, taken
        )
        gains[kind] = ap_at(new_gt, edited, threshold, categories) - before
    counts = {kind: sum(e[0] == kind for e in errors.values()) for kind in KINDS}
    return before, gains, counts | {'missed': len(missed)}


def edit(
    gt: dict, results: list[Track], wrong: dict[int, int], kind: str, taken: set[int]
) -> list[Track]:
    """Results with the errors of one kind mended or removed."""
    mended: dict[int, Track] = {}
    if kind in KINDS[:3]:
        settled = set(taken)
        for r in sorted(wrong, key=lambda r: -results[r]['score']):
            if wrong[r] not in settled:
                settled.add(wrong[r])
                truth = gt['annotations'][wrong[r]]
                field = 'category_id' if kind == 'classification' else 'segmentations'
                mended[r] = dict(results[r], **{field: truth[field]})
    return [
        mended.get(r, result) for r, result in enumerate(results) if r not in wrong or r in mended
    ]
