"""Media made on the spot, for tests: videos whose every frame and sound says which one it is, and files that do harm.

``make_video`` writes what a test asks for; ``read_frame_number`` and ``read_time_s`` tell from decoded pictures and
samples which ones they are, so that a test can prove where a row came from. ``truncate``, ``flip_bytes``, ``not_media``
and ``hostile_playlist`` make what a user may be handed by the internet. ``page.py`` takes a page of ours apart,
``processes.py`` looks at other processes.
"""

from __future__ import annotations

from extract.testing.damage import HOSTILE, NOT_MEDIA, flip_bytes, hostile_playlist, not_media, truncate
from extract.testing.marks import (
    FRAME_NUMBERS,
    SOUND_PERIOD_S,
    centre_crop_shows,
    numbered_picture,
    read_clicks_s,
    read_frame_number,
    read_time_s,
    read_track,
    timed_sound,
)
from extract.testing.video import make_video

__all__ = [
    "FRAME_NUMBERS",
    "HOSTILE",
    "NOT_MEDIA",
    "SOUND_PERIOD_S",
    "centre_crop_shows",
    "flip_bytes",
    "hostile_playlist",
    "make_video",
    "not_media",
    "numbered_picture",
    "read_clicks_s",
    "read_frame_number",
    "read_time_s",
    "read_track",
    "timed_sound",
    "truncate",
]
