"""Columns that the manifest of every folder of shards has, whoever wrote it."""

from __future__ import annotations

import pyarrow as pa

COLUMNS = (
    ("record", pa.string()),
    ("id", pa.string()),
    ("status", pa.string()),
    ("stage", pa.string()),
    ("reason", pa.string()),
    ("detail", pa.string()),
    ("path", pa.string()),
    ("source", pa.string()),
    ("start_frame", pa.int64()),
    ("end_frame", pa.int64()),
    ("start_seconds", pa.float64()),
    ("end_seconds", pa.float64()),
    ("fps", pa.float64()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("num_frames", pa.int64()),
    ("num_bytes", pa.int64()),
    ("codec", pa.string()),
    ("pixel_format", pa.string()),
    ("num_transitions", pa.int64()),
    ("kind", pa.string()),
    ("caption", pa.string()),
    ("caption_source", pa.string()),
    ("text_encoder", pa.string()),
    ("tags", pa.list_(pa.string())),
)
