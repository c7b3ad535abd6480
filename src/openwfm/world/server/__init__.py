"""``openwfm play``: a local page on which a world is driven with keys or buttons."""
