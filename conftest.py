"""What pytest leaves out where an optional package is missing."""

from importlib.util import find_spec

NEEDS = {
    "lla/tracking/hugging_face.py": "transformers",
    "lla/tracking/lightning.py": "lightning",
}
collect_ignore = [file for file, package in NEEDS.items() if find_spec(package) is None]
