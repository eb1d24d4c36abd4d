"""Open-Oasis's DiT and its sampler, written out in PyTorch from their description, on weights named as in the released file."""

import math

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional


def random_weights(width=128, depth=2, *, head_width=64, hidden=4, channels=16, patch=2, actions=25, seed=0):
    """Weights by name, among them the two tables of frequencies; as large as lets every part count."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape, scale):
        return scale * torch.randn(shape, generator=draw)

    w = {}

    def linear(name, outputs, inputs, bias=True):
        w[f"{name}.weight"] = normal(outputs, inputs, scale=inputs**-0.5)
        if bias:
            w[f"{name}.bias"] = normal(outputs, scale=0.2)

    w["x_embedder.proj.weight"] = normal(width, channels, patch, patch, scale=(channels * patch**2) ** -0.5)
    w["x_embedder.proj.bias"] = normal(width, scale=0.2)
    linear("t_embedder.mlp.0", width, 256)
    linear("t_embedder.mlp.2", width, width)
    linear("external_cond", width, actions)
    for block in range(depth):
        for axis in "st":
            name = f"blocks.{block}.{axis}_"
            linear(name + "attn.to_qkv", 3 * width, width, bias=False)
            linear(name + "attn.to_out", width, width)
            linear(name + "mlp.fc1", hidden * width, width)
            linear(name + "mlp.fc2", width, hidden * width)
            linear(name + "adaLN_modulation.1", 6 * width, width)
    linear("final_layer.linear", patch**2 * channels, width)
    linear("final_layer.adaLN_modulation.1", 2 * width, width)
    w["blocks.0.s_attn.rotary_emb.freqs"] = spatial_frequencies(head_width)
    w["blocks.0.t_attn.rotary_emb.freqs"] = temporal_frequencies(head_width)
    return w


def spatial_frequencies(head_width):
    return math.pi * torch.linspace(1, 128, head_width // 4)


def temporal_frequencies(head_width):
    return 1 / 10_000 ** (torch.arange(0, head_width, 2).float() / head_width)


def predict(w, x, t, actions, heads):
    """``v`` (b, t, c, rows, cols) for frames ``x`` of that shape, timesteps (b, t) and actions (b, t, 25)."""

    def linear(name, h):
        return F.linear(h, w[name + ".weight"], w.get(name + ".bias"))

    def modulated(h, shift, scale):
        return F.layer_norm(h, h.shape[-1:], eps=1e-6) * (1 + scale) + shift

    weight = w["x_embedder.proj.weight"]
    width, channels, patch, _ = weight.shape
    h = F.conv2d(x.flatten(0, 1), weight, w["x_embedder.proj.bias"], stride=patch)
    h = h.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])  # b t i j d
    angle = t[..., None].float() * torch.exp(-math.log(10_000) * torch.arange(128) / 128)
    embedding = torch.cat([angle.cos(), angle.sin()], dim=-1)
    c = linear("t_embedder.mlp.2", F.silu(linear("t_embedder.mlp.0", embedding)))
    c = F.silu(c + linear("external_cond", actions))[:, :, None, None]
    depth = len({name.split(".")[1] for name in w if name.startswith("blocks.")})
    for block in range(depth):
        for axis, attend in ("s", spatial), ("t", temporal):
            name = f"blocks.{block}.{axis}_"
            shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = linear(name + "adaLN_modulation.1", c).chunk(
                6, -1
            )
            q, k, v = linear(name + "attn.to_qkv", modulated(h, shift, scale)).chunk(3, -1)
            q, k, v = (part.unflatten(-1, (heads, width // heads)) for part in (q, k, v))  # b t i j h e
            h = h + gate * linear(name + "attn.to_out", attend(q, k, v).flatten(-2))
            hidden = F.gelu(linear(name + "mlp.fc1", modulated(h, mlp_shift, mlp_scale)), approximate="tanh")
            h = h + mlp_gate * linear(name + "mlp.fc2", hidden)
    shift, scale = linear("final_layer.adaLN_modulation.1", c).chunk(2, -1)
    h = linear("final_layer.linear", modulated(h, shift, scale)).unflatten(-1, (patch, patch, channels))
    return h.permute(0, 1, 6, 2, 4, 3, 5).reshape(x.shape)  # b t i j p q c -> b t c (i p) (j q)


def spatial(q, k, v):
    """All tokens of a frame; the first half of the pairs turns with the row, the other with the column."""
    rows, cols, width = q.shape[2], q.shape[3], q.shape[-1]
    f = spatial_frequencies(width)
    row = torch.linspace(-1, 1, rows)[:, None, None] * f
    col = torch.linspace(-1, 1, cols)[None, :, None] * f
    angle = torch.cat([row.expand(rows, cols, -1), col.expand(rows, cols, -1)], -1)[:, :, None]
    q, k = turn(q, angle), turn(k, angle)
    weights = (torch.einsum("btijhe,btklhe->bthijkl", q, k) / width**0.5).flatten(-2).softmax(-1)
    return torch.einsum("bthijkl,btklhe->btijhe", weights.unflatten(-1, (rows, cols)), v)


def temporal(q, k, v):
    """The frames up to its own, for every token by itself; pairs turn with the time since the window's start."""
    frames, width = q.shape[1], q.shape[-1]
    angle = torch.arange(frames)[:, None] * temporal_frequencies(width)
    angle = angle[:, None, None, None]
    q, k = turn(q, angle), turn(k, angle)
    logits = torch.einsum("btijhe,bsijhe->bijhts", q, k) / width**0.5
    future = torch.ones(frames, frames, dtype=torch.bool).triu(1)
    return torch.einsum("bijhts,bsijhe->btijhe", logits.masked_fill(future, -torch.inf).softmax(-1), v)


def turn(x, angle):
    """Neighbouring features as complex numbers, times e^(i angle)."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).flatten(-2)


def alphas_cumprod():
    """The sigmoid schedule from -3 to 3 over 1000 steps."""
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    low, high = torch.tensor(-3.0).sigmoid(), torch.tensor(3.0).sigmoid()
    curve = (high - (6 * t - 3).sigmoid()) / (high - low)
    curve = curve / curve[0]
    betas = (1 - curve[1:] / curve[:-1]).clip(0, 0.999)
    return (1 - betas.float()).cumprod(0)


def generate(w, context, actions, noise, *, steps, window, heads):
    """Continues ``context`` (b, t, c, rows, cols) by the frames that ``noise`` starts from, one after another."""
    video, alphas = context, alphas_cumprod()
    timesteps = torch.linspace(-1, 999, steps + 1).long()
    for new in noise.unbind(1):
        video = torch.cat([video, new[:, None].clamp(-20, 20)], 1)[:, -window:]
        last = actions[:, context.shape[1] : context.shape[1] + 1]
        seen = actions[:, : context.shape[1] + 1][:, -window:]
        assert torch.equal(seen[:, -1:], last)
        for index in range(steps, 0, -1):
            t = torch.full(video.shape[:2], 14)
            t[:, -1] = timesteps[index]
            a = alphas[timesteps[index]]
            v = predict(w, video, t, seen, heads)[:, -1]
            clean = a.sqrt() * video[:, -1] - (1 - a).sqrt() * v
            eps = ((1 / a).sqrt() * video[:, -1] - clean) / (1 / a - 1).sqrt()
            a = alphas[timesteps[index - 1]] if index > 1 else torch.ones(())
            video = torch.cat([video[:, :-1], (a.sqrt() * clean + (1 - a).sqrt() * eps)[:, None]], 1)
        context = torch.cat([context, video[:, -1:]], 1)
    return context[:, -noise.shape[1] :]
