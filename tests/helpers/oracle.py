"""Vision Mamba in plain loops of NumPy and float64: what every other implementation is compared with.

The operators are written from the contract's formulas. The model is written the way the paper tells it, the backward
direction as a forward pass over the flipped sequence, so that the two check each other.
"""

import numpy as np


def with_silu(x):
    return x / (1 + np.exp(-x))


def softplus(x):
    return np.where(x > 20, x, np.log1p(np.exp(np.minimum(x, 20))))


def bidirectional_conv1d(xz, weight, bias, reverse):
    return causal_conv1d(xz, weight, bias, reverse, silu=True)


def causal_conv1d(x, weight, bias, reverse, silu):
    directions, channels, width = weight.shape
    batch, length, _ = x.shape
    u = np.zeros((directions, batch, length, channels))
    for k, b, token in np.ndindex(directions, batch, length):
        u[k, b, token] = bias[k]
        for w in range(width):
            source = token + width - 1 - w if reverse[k] else token - width + 1 + w
            if 0 <= source < length:
                u[k, b, token] += weight[k, :, w] * x[b, source, :channels]
    return with_silu(u) if silu else u


def bidirectional_selective_scan(u, xz, dt_bc, dt_weight, dt_bias, A, D, reverse, scale):
    directions, batch, length, channels = u.shape
    rank, states = dt_weight.shape[-1], A.shape[-1]
    y = np.zeros((batch, length, channels))
    for k, b in np.ndindex(directions, batch):
        h = np.zeros((channels, states))
        for token in reversed(range(length)) if reverse[k] else range(length):
            low_rank, B, C = np.split(dt_bc[k, b, token], [rank, rank + states])
            dt = softplus(dt_bias[k] + dt_weight[k] @ low_rank)  # (E,)
            h = np.exp(dt[:, None] * A[k]) * h + np.outer(dt * u[k, b, token], B)  # (E, N)
            y[b, token] += h @ C + D[k] * u[k, b, token]
    return scale * with_silu(xz[..., channels:]) * y


def selective_scan(u, delta, A, B, C, D, delta_bias, delta_weight=None, *, reverse, delta_softplus):
    """y (B, G, L, E) and the last state (B, G, E, N)."""
    batch, groups, length, channels = u.shape
    y, last = np.zeros(u.shape), np.zeros((batch, groups, channels, A.shape[-1]))
    for b, g in np.ndindex(batch, groups):
        h = last[b, g]  # (E, N)
        for token in reversed(range(length)) if reverse[g] else range(length):
            dt = delta[b, g, token] if delta_weight is None else delta_weight[g] @ delta[b, g, token]
            dt = softplus(dt + delta_bias[g]) if delta_softplus else dt + delta_bias[g]  # (E,)
            h[:] = np.exp(dt[:, None] * A[g]) * h + np.outer(dt * u[b, g, token], B[b, g, token])
            y[b, g, token] = h @ C[b, g, token] + D[g] * u[b, g, token]
    return y, last


def rms_norm(x, weight, eps):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * weight


def mixer(x, weights, config):
    """(L, D) -> (L, D), with the weights of one ``layers.i.mixer``."""
    x, z = np.split(x @ weights["in_proj.weight"].T, 2, axis=1)  # (L, E) each
    forward = one_direction(x, weights, "", config)
    backward = one_direction(x[::-1], weights, "_b", config)[::-1]
    return (config.direction_scale * (forward + backward) * with_silu(z)) @ weights["out_proj.weight"].T


def one_direction(x, weights, suffix, config):
    """(L, E) -> (L, E), first token to last."""
    taps, A_log = weights[f"conv1d{suffix}.weight"][:, 0], weights[f"A{suffix}_log"]
    padded = np.concatenate([np.zeros((config.conv_width - 1, x.shape[1])), x])
    h, y = np.zeros_like(A_log), []
    for token in range(len(x)):
        window = padded[token : token + config.conv_width]  # (W, E)
        u = with_silu((window * taps.T).sum(0) + weights[f"conv1d{suffix}.bias"])
        low_rank, B, C = np.split(
            weights[f"x_proj{suffix}.weight"] @ u, [config.dt_rank, config.dt_rank + config.state_size]
        )
        dt = softplus(weights[f"dt_proj{suffix}.weight"] @ low_rank + weights[f"dt_proj{suffix}.bias"])
        h = np.exp(dt[:, None] * -np.exp(A_log)) * h + np.outer(dt * u, B)
        y.append(h @ C + weights[f"D{suffix}"] * u)
    return np.stack(y)


def patches(image, config):
    """(C, H, W) -> (M, C * patch * patch), row by row."""
    size, stride, (rows, columns) = config.patch_size, config.stride, config.grid
    corners = [(stride * row, stride * column) for row in range(rows) for column in range(columns)]
    return np.stack([image[:, top : top + size, left : left + size].ravel() for top, left in corners])


def class_token_index(config):
    """Where the class token stands among the tokens; None if there is none."""
    return {"middle": config.patches // 2, "first": 0, "none": None}[config.class_token]


def rotated(tokens, grid):
    """(M, D) -> (M, D): neighbouring channels as complex numbers, turned by the token's row or column."""
    rows, columns = grid
    turned = np.empty_like(tokens)
    quarter = tokens.shape[1] // 4
    for token, (row, column) in enumerate(np.ndindex(rows, columns)):
        for pair in range(2 * quarter):
            place = 14 * row / rows if pair < quarter else 14 * column / columns
            angle = place / 10000 ** (pair % quarter / quarter)
            number = complex(*tokens[token, 2 * pair : 2 * pair + 2]) * np.exp(1j * angle)
            turned[token, 2 * pair : 2 * pair + 2] = number.real, number.imag
    return turned


def blocks(image, weights, config):
    """(C, H, W) -> for each block what it reads, what its mixer gives, and the residual after it, (L, D) each."""
    kernel = weights["patch_embed.proj.weight"]
    tokens = patches(image, config) @ kernel.reshape(len(kernel), -1).T + weights["patch_embed.proj.bias"]
    position = class_token_index(config)
    if position is not None:
        tokens = np.insert(tokens, position, weights["cls_token"][0, 0], axis=0)
    hidden, residual = tokens + weights["pos_embed"][0], 0
    found = []
    for i in range(config.depth):
        residual = residual + hidden
        if config.rotary:
            residual = rotated(residual, config.grid)
        prefix = f"layers.{i}.mixer."
        own = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        hidden = mixer(rms_norm(residual, weights[f"layers.{i}.norm.weight"], config.norm_eps), own, config)
        found.append((residual, hidden, residual + hidden))
    return found


def vim(image, weights, config):
    """(C, H, W) -> (classes,), with the weights of a whole checkpoint."""
    normed = rms_norm(blocks(image, weights, config)[-1][2], weights["norm_f.weight"], config.norm_eps)
    position = class_token_index(config)
    return weights["head.weight"] @ (normed.mean(0) if position is None else normed[position]) + weights["head.bias"]
