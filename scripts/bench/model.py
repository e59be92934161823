"""A stitch in plain PyTorch, as one would write it by hand for this one path: adapted as ESTA adapts it, or plain."""

import torch
import torch.nn.functional as F
from torch import nn

LORA_R, STITCH_R = 8, 16


def low_rank_pair(d_in, d_out, rank):
    a = nn.Parameter(torch.empty(rank, d_in).uniform_(-(d_in**-0.5), d_in**-0.5))
    return a, nn.Parameter(torch.zeros(d_out, rank))


class Block(nn.Module):
    """A pre-norm block of a vision transformer."""

    def __init__(self, d, heads, mlp_ratio):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, mlp_ratio * d), nn.Linear(mlp_ratio * d, d)

    def project(self, h):
        return self.qkv(h)

    def forward(self, x):
        b, n, d = x.shape
        qkv = self.project(self.norm1(x))
        q, k, v = qkv.reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class AdaptedBlock(Block):
    """A frozen block with LoRA on q, k and v and the stitch's own bias."""

    def __init__(self, d, heads, mlp_ratio):
        super().__init__(d, heads, mlp_ratio)
        self.requires_grad_(False)
        pairs = [low_rank_pair(d, d, LORA_R) for _ in "qkv"]
        self.a, self.b = (nn.ParameterList(part) for part in zip(*pairs))
        self.bias = nn.Parameter(torch.zeros(3 * d))

    def project(self, h):
        low = torch.cat([F.linear(F.linear(h, a), b) for a, b in zip(self.a, self.b)], -1)
        return self.qkv(h) + low + self.bias


class AdaptedStitch(nn.Module):
    """A frozen stitching layer with its low-rank pair and the stitch's own bias."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out).requires_grad_(False)
        self.a, self.b = low_rank_pair(d_in, d_out, STITCH_R)
        self.bias = nn.Parameter(torch.zeros(d_out))

    def forward(self, x):
        return self.linear(x) + F.linear(F.linear(x, self.a), self.b) + self.bias


class Stitched(nn.Module):
    """One path through `anchors`. Adapted: adapters, stitch biases and the head train; else everything does."""

    def __init__(self, anchors, path, classes, adapted):
        super().__init__()
        block, stitch = (AdaptedBlock, AdaptedStitch) if adapted else (Block, nn.Linear)
        first, last = anchors[path[0][0]], anchors[path[-1][0]]
        d, patch = first["embed_dim"], first["patch_size"]
        tokens = (first["image_size"] // patch) ** 2 + 1
        self.patch = nn.Conv2d(first["in_chans"], d, patch, patch)
        self.cls = nn.Parameter(torch.randn(1, 1, d) * 0.02)
        self.pos = nn.Parameter(torch.randn(1, tokens, d) * 0.02)
        layers = []
        for place, (anchor, start, end) in enumerate(path):
            arch = anchors[anchor]
            if place:
                layers.append(stitch(anchors[path[place - 1][0]]["embed_dim"], arch["embed_dim"]))
            mlp_ratio = arch.get("mlp_ratio", 4)
            layers += [block(arch["embed_dim"], arch["num_heads"], mlp_ratio) for _ in range(start, end + 1)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(last["embed_dim"], eps=1e-6)
        for part in (self.patch.weight, self.patch.bias, self.cls, self.pos, *self.norm.parameters()):
            part.requires_grad_(not adapted)
        self.head = nn.Linear(last["embed_dim"], classes)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.layers(x))[:, 0])


class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class AdaptedLinear(nn.Module):
    """A frozen linear map without bias, with LoRA and the stitch's own bias."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(d_out, d_in) * 0.02, requires_grad=False)
        self.a, self.b = low_rank_pair(d_in, d_out, LORA_R)
        self.bias = nn.Parameter(torch.zeros(d_out))

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.a), self.b)


class Decoder(nn.Module):
    """A frozen block of the LLaMA type with LoRA on q, k and v."""

    def __init__(self, arch):
        super().__init__()
        d, f, self.d_head = arch["hidden_size"], arch["intermediate_size"], arch["head_dim"]
        self.heads, self.groups = arch["num_attention_heads"], arch["num_key_value_heads"]
        queries, keys = self.heads * self.d_head, self.groups * self.d_head
        self.norm1, self.norm2 = RMSNorm(d).requires_grad_(False), RMSNorm(d).requires_grad_(False)
        self.q, self.k, self.v = AdaptedLinear(d, queries), AdaptedLinear(d, keys), AdaptedLinear(d, keys)
        frozen = lambda d_in, d_out: nn.Linear(d_in, d_out, bias=False).requires_grad_(False)
        self.o, self.gate, self.up, self.down = frozen(queries, d), frozen(d, f), frozen(d, f), frozen(f, d)

    def split(self, x):
        return x.view(*x.shape[:2], -1, self.d_head).transpose(1, 2)

    def forward(self, x, turn):
        h = self.norm1(x)
        q, k, v = turn(self.split(self.q(h))), turn(self.split(self.k(h))), self.split(self.v(h))
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(attended.transpose(1, 2).flatten(2))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Speaker(nn.Module):
    """One path through language models, adapted as ESTA adapts it; its head reads every token."""

    def __init__(self, anchors, path):
        super().__init__()
        first, last = anchors[path[0][0]], anchors[path[-1][0]]
        self.embed = nn.Embedding(first["vocab_size"], first["hidden_size"]).requires_grad_(False)
        self.stages = nn.ModuleList()
        for place, (anchor, start, end) in enumerate(path):
            if place:
                self.stages.append(AdaptedStitch(anchors[path[place - 1][0]]["hidden_size"], anchors[anchor]["hidden_size"]))
            self.stages.extend(Decoder(anchors[anchor]) for _ in range(start, end + 1))
        self.norm = RMSNorm(last["hidden_size"]).requires_grad_(False)
        self.head = nn.Linear(last["hidden_size"], last["vocab_size"], bias=False).requires_grad_(False)

    def forward(self, ids):
        x, turns = self.embed(ids), {}
        for stage in self.stages:
            if isinstance(stage, Decoder):
                turn = turns.setdefault(stage.d_head, rotation(ids.shape[1], stage.d_head, x.device))
                x = stage(x, turn)
            else:
                x = stage(x)
        return self.head(self.norm(x))


def rotation(tokens, d, device):
    frequencies = 1e4 ** (-torch.arange(0, d, 2, device=device) / d)
    angles = torch.outer(torch.arange(tokens, device=device), frequencies).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()

    def turn(x):
        one, other = x.chunk(2, -1)
        return x * cos + torch.cat([-other, one], -1) * sin

    return turn
