"""Pictures, videos and curves of what goes in and what comes out."""

from .affinity import clip_sheet
from .comparison import comparison_sheet, comparison_video
from .curves import plot_training_log
from .error_plot import plot_errors
from .overlay import draw_tracks, overlay_frames, track_color
from .report import write_report
from .sheet import (
    SheetSection,
    contact_sheet,
    overlay_video_from_json,
    prediction_sheet,
    sheet_from_json,
    stack_sections,
)
from .tracks import keep_best_of_duplicates
from .video_overlay_hook import VideoOverlayHook
from .video_writer import write_video

__all__ = [
    'SheetSection',
    'VideoOverlayHook',
    'clip_sheet',
    'comparison_sheet',
    'comparison_video',
    'contact_sheet',
    'draw_tracks',
    'keep_best_of_duplicates',
    'overlay_frames',
    'overlay_video_from_json',
    'plot_errors',
    'plot_training_log',
    'prediction_sheet',
    'sheet_from_json',
    'stack_sections',
    'track_color',
    'write_report',
    'write_video',
]
