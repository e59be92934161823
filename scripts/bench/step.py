"""The step of `worker/examples/bench_step` in plain PyTorch, as one would write it by hand for this one stitch; the same
dialogue: a case as JSON on the first line, then `steps N`."""

import json
import os
import resource
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

LORA_R, STITCH_R = 8, 16


def low_rank_pair(d_in, d_out, rank):
    a = nn.Parameter(torch.empty(rank, d_in).uniform_(-(d_in**-0.5), d_in**-0.5))
    return a, nn.Parameter(torch.zeros(d_out, rank))


class Block(nn.Module):
    """A frozen block with LoRA on q, k and v and the stitch's own bias."""

    def __init__(self, d, heads, mlp_ratio):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, mlp_ratio * d), nn.Linear(mlp_ratio * d, d)
        self.requires_grad_(False)
        pairs = [low_rank_pair(d, d, LORA_R) for _ in "qkv"]
        self.a, self.b = (nn.ParameterList(part) for part in zip(*pairs))
        self.bias = nn.Parameter(torch.zeros(3 * d))

    def forward(self, x):
        b, n, d = x.shape
        h = self.norm1(x)
        low = torch.cat([F.linear(F.linear(h, a), b) for a, b in zip(self.a, self.b)], -1)
        qkv = self.qkv(h) + low + self.bias
        q, k, v = qkv.reshape(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Stitch(nn.Module):
    """A frozen stitching layer with its low-rank pair and the stitch's own bias."""

    def __init__(self, d_in, d_out):
        super().__init__()
        self.linear = nn.Linear(d_in, d_out).requires_grad_(False)
        self.a, self.b = low_rank_pair(d_in, d_out, STITCH_R)
        self.bias = nn.Parameter(torch.zeros(d_out))

    def forward(self, x):
        return self.linear(x) + F.linear(F.linear(x, self.a), self.b) + self.bias


class Stitched(nn.Module):
    def __init__(self, anchors, path, classes):
        super().__init__()
        first, last = anchors[path[0][0]], anchors[path[-1][0]]
        d, patch = first["embed_dim"], first["patch_size"]
        self.patch = nn.Conv2d(first["in_chans"], d, patch, patch).requires_grad_(False)
        tokens = (first["image_size"] // patch) ** 2 + 1
        self.cls = nn.Parameter(torch.randn(1, 1, d) * 0.02, requires_grad=False)
        self.pos = nn.Parameter(torch.randn(1, tokens, d) * 0.02, requires_grad=False)
        layers = []
        for place, (anchor, start, end) in enumerate(path):
            arch = anchors[anchor]
            if place:
                layers.append(Stitch(anchors[path[place - 1][0]]["embed_dim"], arch["embed_dim"]))
            mlp_ratio = arch.get("mlp_ratio", 4)
            layers += [Block(arch["embed_dim"], arch["num_heads"], mlp_ratio) for _ in range(start, end + 1)]
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(last["embed_dim"], eps=1e-6).requires_grad_(False)
        self.head = nn.Linear(last["embed_dim"], classes)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        return self.head(self.norm(self.layers(x))[:, 0])


def main():
    torch.set_num_threads(1)
    case = json.loads(sys.stdin.readline())
    net = Stitched(case["anchors"], case["path"], case["classes"])
    trained = [p for p in net.parameters() if p.requires_grad]
    scored = [p for name, p in net.named_parameters() if p.requires_grad and not name.startswith("head.")]
    active = sum(p.numel() for p in scored)
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=1e-4)
    first = case["anchors"][case["path"][0][0]]
    images = torch.randn(case["images"], first["in_chans"], first["image_size"], first["image_size"])
    labels = torch.randint(case["classes"], (case["images"],))
    forget_peak()
    answer(trained=sum(p.numel() for p in trained))

    for line in sys.stdin:
        ms = []
        for _ in range(int(line.split()[1])):
            begin = time.perf_counter()
            optimizer.zero_grad()
            loss = F.cross_entropy(net(images), labels)
            loss.backward()
            # The score: |w g| over all that trains but the head, as one number.
            with torch.no_grad():
                products = torch._foreach_mul(scored, [p.grad for p in scored])
                score = torch.stack(torch._foreach_norm(products, 1)).sum().item() / active
            optimizer.step()
            value = loss.item()
            ms.append((time.perf_counter() - begin) * 1e3)
        answer(ms=ms, loss=value, score=score, peak_rss=peak_rss())


def answer(**values):
    print(json.dumps(values), flush=True)


def forget_peak():
    if os.access("/proc/self/clear_refs", os.W_OK):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")


def peak_rss():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


main()
