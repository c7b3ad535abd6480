"""OpenWFM: an open world-foundation-model platform."""

