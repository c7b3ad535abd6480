"""Post-training: camera, action, instruction and driving worlds, and adapters. Ports are filled,
no network is forked (arXiv 2501.03575, section 6)."""
