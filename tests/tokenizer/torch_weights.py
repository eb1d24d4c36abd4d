"""PyTorch modules with weights of which every one counts, and their files."""

import json

import pytest

torch = pytest.importorskip("torch")


def perturbed(module, seed=0):
    """The module with every parameter moved, the biases and norms too, which start at zero and one."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    return module.eval()


def save(directory, tensors, config=None, name="weights.safetensors"):
    """Tensors by name, numpy or torch, as a safetensors file, with a config.json beside it if given; returns its path."""
    from safetensors.torch import save_file

    directory.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: torch.as_tensor(tensor).detach().clone().contiguous() for name, tensor in tensors.items()
    }
    save_file(tensors, directory / name)
    if config is not None:
        (directory / "config.json").write_text(json.dumps(config))
    return directory / name


def images(*shape, seed=1):
    """Images (..., H, W, 3) in [0, 1] for us."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).numpy()


def to_torch(images):
    """(m, H, W, C) to (m, C, H, W)."""
    return torch.tensor(images).movedim(-1, 1)


def from_torch(images):
    return images.movedim(1, -1).detach().numpy()
