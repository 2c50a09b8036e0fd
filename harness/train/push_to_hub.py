"""Puts an adapter onto the Hugging Face hub."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import HarnessError, UsageError
from harness.model.profile_schema import Weights
from harness.storage.hub import without_retry_warnings

UNPUBLISHED = frozenset({".bin", ".pt", ".pth", ".pkl"})
"""Pickles run code in who opens them."""


def push_adapter(folder: Path, repo: str, weights: Weights) -> str:
    """Upload adapter, tokenizer, card and training record; return the page's address.

    The adapter's base is named as the hub knows it; on this machine it stays the local folder. `HF_ENDPOINT` and the
    login are those of the hub's own client.

    Raises:
        UsageError: `repo` is not a name that the hub allows.
        HarnessError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with TemporaryDirectory() as temporary:
        upload = Path(temporary)
        for file in folder.iterdir():
            if file.is_file() and file.suffix not in UNPUBLISHED and not file.name.startswith("."):
                shutil.copy2(file, upload / file.name)
        if weights.hub is not None:
            config = json.loads((upload / "adapter_config.json").read_text(encoding="utf-8"))
            config |= {"base_model_name_or_path": weights.hub.path, "revision": weights.hub.revision}
            (upload / "adapter_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        try:
            with without_retry_warnings():
                address = api.create_repo(repo, exist_ok=True)
                api.upload_folder(repo_id=address.repo_id, folder_path=upload, commit_message="Adapter and model card")
        except HFValidationError as error:
            raise UsageError(
                f"'{repo}' cannot be the name of a repository", "for example --push me/html-lora"
            ) from error
        except Exception as error:  # the hub client raises many kinds; all of them mean that nothing was put there
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise HarnessError(
                f"the adapter could not be pushed to {repo}: {reason:.160}",
                f"log in with `hf auth login` or set HF_TOKEN, and check the network; it lies in {folder}",
            ) from error
    return str(address)
