"""The hub: a repository that may be written, and the upload of a folder."""

from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.utils import validate_repo_id

from r1lab.basics.errors import R1LabError, first_line


def hub_ready(name: str) -> str:
    """The repository "owner/name", created (private) if there is none: before the training, since
    after it an error would come too late. Raises R1LabError."""
    try:
        validate_repo_id(name)
        return huggingface_hub.HfApi().create_repo(name, private=True, exist_ok=True).repo_id
    except Exception as error:
        raise R1LabError(
            f"cannot push to '{name}': {first_line(error)}. Log in with `hf auth login`, with the "
            "network on and a token that may write, or leave --push-to-hub out."
        ) from error


def push(folder: Path, name: str, **more: Any) -> None:
    """Upload a model folder to a repository of the hub. more: of HfApi.upload_folder."""
    how = {"repo_id": name, "commit_message": "Trained with r1lab"}
    huggingface_hub.HfApi().upload_folder(folder_path=str(folder), **how, **more)
