"""Files of tensors as somebody else might leave them: read without our reader, and written anew."""

from __future__ import annotations

import safetensors
import safetensors.torch

from ddpm_ref.training import container


def tensors_and_header(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118 - no dict


def rewrite(path, tensors=None, **header):
    """The same file with other tensors or header entries, its digest made anew if it is not given."""
    old, metadata = tensors_and_header(path)
    tensors, metadata = tensors or old, {**metadata, **header}
    if "sha256" not in header:
        metadata["sha256"] = container.digest(metadata, tensors)
    path.write_bytes(safetensors.torch.save(tensors, metadata))
