"""Result files for the benchmark servers: a json list, and a zip with it as ``results.json``."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mmboxvis.class_names import class_key
from mmboxvis.files import whole_file
from mmboxvis.structures import VideoPrediction

from .functional.layout import (
    SUBMISSION_NAME,
    Entry,
    GroundTruth,
    Source,
    VideoInfo,
    read_ground_truth,
    read_results,
    read_videos,
    result_problems,
)

CategoryIds = Sequence[int | Sequence[int]]
Videos = Source | Mapping[str, Any] | GroundTruth | Sequence[Entry]


def match_categories(classes: Sequence[str], categories: Mapping[int, str]) -> list[int]:
    """Finds the category id of each class by its name.

    Names are compared by :func:`~mmboxvis.class_names.class_key`, as in training.

    Args:
        classes: name of each label.
        categories: name of each category id.

    Returns:
        One id a label.

    Raises:
        ValueError: if a class has no category, or two categories have one name.
    """
    ids: dict[str, int] = {}
    for category_id, name in categories.items():
        if ids.setdefault(class_key(name), category_id) != category_id:
            raise ValueError(
                f'categories {ids[class_key(name)]} and {category_id} have the same name {name!r}; '
                'give category_ids instead'
            )
    lost = [name for name in classes if class_key(name) not in ids]
    if lost:
        raise ValueError(
            f'no category is called {lost}; the annotation file has {list(categories.values())}. '
            'Use the classes of the data set that the annotation file belongs to, or give '
            'category_ids, the id or ids of each label'
        )
    return [ids[class_key(name)] for name in classes]


def _ids_of_label(label: int, category_ids: CategoryIds) -> Sequence[int]:
    if not 0 <= label < len(category_ids):
        raise ValueError(
            f'label {label} of a prediction is out of range, there are {len(category_ids)} classes'
        )
    ids = category_ids[label]
    return ids if isinstance(ids, Sequence) else [ids]


def to_results(predictions: Iterable[VideoPrediction], category_ids: CategoryIds) -> list[Entry]:
    """Lists the tracks of videos in the YouTube-VIS result layout.

    Args:
        predictions: one entry a video.
        category_ids: for each label the category id; several ids write the track once for each,
            with the same masks and score; an empty list drops it.

    Raises:
        ValueError: if a label is out of range, naming it.
    """
    results = []
    for prediction in predictions:
        tracks = zip(
            prediction.labels.tolist(),
            prediction.scores.tolist(),
            prediction.segmentations,
            strict=True,
        )
        for label, score, masks in tracks:
            for category_id in _ids_of_label(label, category_ids):
                results.append(
                    dict(
                        video_id=int(prediction.video_id),
                        category_id=int(category_id),
                        score=score,
                        segmentations=masks,
                    )
                )
    return results


def _read_known(gt_or_videos: Videos) -> tuple[dict[int, VideoInfo], dict[int, str] | None]:
    """Videos by id, and categories where they are known."""
    if isinstance(gt_or_videos, Source | Mapping | GroundTruth):
        truth = read_ground_truth(gt_or_videos)
        return truth.videos, truth.categories
    return read_videos(list(gt_or_videos)), None


def _archive_problems(path: Path) -> Iterator[str]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if names != [SUBMISSION_NAME]:
            yield f'{path}: a server expects {SUBMISSION_NAME} and nothing else, it holds {names}'
    elif path.suffix == '.zip':
        yield f'{path}: not a zip archive'


def check_submission(
    results: Source | Sequence[Entry], gt_or_videos: Videos, *, max_problems: int = 100
) -> list[str]:
    """Says what is wrong with a result file before a server does.

    Args:
        results: path of a json or zip file, or the loaded list.
        gt_or_videos: annotation file (path or loaded json; annotations are not needed), or the
            list of its ``videos``, which leaves category ids unchecked.
        max_problems: where to stop.

    Returns:
        One line a problem, naming file, index and field; empty if all is well.

    Raises:
        FileNotFoundError: if a path does not exist.
        ValueError: if the annotation file is wrong.
    """
    videos, categories = _read_known(gt_or_videos)
    problems = list(_archive_problems(Path(results))) if isinstance(results, Source) else []
    try:
        entries, source = read_results(results)
    except ValueError as error:
        return [*problems, str(error)]
    found = result_problems(entries, videos, categories, source=source)
    problems += islice(found, max_problems)
    if next(found, None) is not None:
        problems.append(f'{source}: more than {max_problems} problems, the rest is left out')
    return problems


def _plain_entry(entry: Entry) -> Entry:
    """An entry that json can write: strings for bytes, Python's numbers for numpy's."""

    def plain_mask(mask: Entry) -> Entry:
        counts = mask['counts']
        counts = counts if isinstance(counts, str) else counts.decode()
        return dict(size=[int(side) for side in mask['size']], counts=counts)

    return dict(
        video_id=int(entry['video_id']),
        category_id=int(entry['category_id']),
        score=float(entry['score']),
        segmentations=[mask and plain_mask(mask) for mask in entry['segmentations']],
    )


def write_submission(
    results: Sequence[Entry], prefix: Source, gt_or_videos: Videos
) -> tuple[Path, Path]:
    """Checks results and writes them as ``<prefix>.json`` and ``<prefix>.zip``.

    Both files are written whole or not at all; folders are made as needed.

    Args:
        results: tracks in the YouTube-VIS result layout.
        prefix: path without suffix.
        gt_or_videos: see :func:`check_submission`.

    Returns:
        Paths of the json and the zip file.

    Raises:
        ValueError: if :func:`check_submission` finds a problem; nothing is written then.
    """
    problems = check_submission(results, gt_or_videos, max_problems=10)
    if problems:
        raise ValueError('the results are no valid submission:\n' + '\n'.join(problems))
    json_path, zip_path = Path(f'{os.fspath(prefix)}.json'), Path(f'{os.fspath(prefix)}.zip')
    with whole_file(zip_path) as zip_part, whole_file(json_path) as json_part:
        with open(json_part, 'w') as file:
            json.dump([_plain_entry(entry) for entry in results], file)
        with zipfile.ZipFile(zip_part, 'w', zipfile.ZIP_DEFLATED) as archive:
            archive.write(json_part, SUBMISSION_NAME)
    return json_path, zip_path
