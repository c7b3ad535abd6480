"""Stage 6: token embeddings of the caption."""

from __future__ import annotations

from dataclasses import replace

from openwfm.curation.record import Clip, Record
from openwfm.text import TextEncoder, text_encoder


class EmbedText:
    """Adds fp16 token embeddings to the clip's media."""

    name = "text"
    accepts = Clip

    def __init__(self, encoder: str) -> None:
        self.encoder_name = encoder
        self.encoder: TextEncoder | None = None

    def setup(self) -> None:
        self.encoder = text_encoder(self.encoder_name)

    def process(self, record: Record) -> list[Record]:
        assert isinstance(record, Clip) and record.media is not None and self.encoder is not None
        # One sentence a call: the result then cannot depend on what else is in the batch.
        embedding = self.encoder.encode([record.captions[0].text])[0]
        return [
            replace(
                record,
                text_encoder=self.encoder.name,
                media=replace(record.media, text=embedding),
            )
        ]
