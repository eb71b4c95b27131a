"""Language models: the ones in `data/`, SmolLM2 from its wheel, a local folder, or the hub."""

from r1lab.basics.files import data_dir
from r1lab.models.load import PRESETS, about, load, origin, read, resolve, save, tiny_llama

__all__ = [
    "PRESETS",
    "about",
    "data_dir",
    "load",
    "origin",
    "read",
    "resolve",
    "save",
    "tiny_llama",
]
