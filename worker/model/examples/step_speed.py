"""The step of `step_speed.rs` in plain PyTorch: images, front width, end width, steps."""

import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

R, STITCH_R, HEADS, DEPTH, PATCH, CLASSES = 8, 16, 3, 8, 7, 10


def pair(d_in, d_out, rank):
    return nn.Parameter(torch.empty(rank, d_in).uniform_(-(d_in**-0.5), d_in**-0.5)), nn.Parameter(torch.zeros(d_out, rank))


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc1, self.fc2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        pairs = [pair(d, d, R) for _ in range(3)]
        self.a, self.b = nn.ParameterList(a for a, _ in pairs), nn.ParameterList(b for _, b in pairs)
        self.bias = nn.Parameter(torch.zeros(3 * d))

    def forward(self, x):
        b, n, d = x.shape
        h = self.norm1(x)
        low = torch.cat([F.linear(F.linear(h, a), b) for a, b in zip(self.a, self.b)], -1)
        qkv = self.qkv(h) + low + self.bias
        q, k, v = qkv.reshape(b, n, 3, HEADS, d // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Stitched(nn.Module):
    def __init__(self, front, end):
        super().__init__()
        self.patch = nn.Conv2d(1, front, PATCH, PATCH).requires_grad_(False)
        self.cls = nn.Parameter(torch.zeros(1, 1, front), requires_grad=False)
        self.pos = nn.Parameter(torch.randn(1, (28 // PATCH) ** 2 + 1, front) * 0.02, requires_grad=False)
        self.front = nn.Sequential(*[Block(front) for _ in range(4)])
        self.stitch = nn.Linear(front, end).requires_grad_(False)
        self.a, self.b = pair(front, end, STITCH_R)
        self.bias = nn.Parameter(torch.zeros(end))
        self.end = nn.Sequential(*[Block(end) for _ in range(END_BLOCKS)])
        self.norm = nn.LayerNorm(end, eps=1e-6).requires_grad_(False)
        self.head = nn.Linear(end, CLASSES)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        x = self.front(x)
        x = self.stitch(x) + F.linear(F.linear(x, self.a), self.b) + self.bias
        return self.head(self.norm(self.end(x))[:, 0])


END_BLOCKS = 6  # the first stitch that leaves after block 3 enters at block 2 of 8
batch, front, end, steps = map(int, sys.argv[1:5])
torch.set_num_threads(1)
net = Stitched(front, end)
trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
scored = [parameter for name, parameter in net.named_parameters() if parameter.requires_grad and "head" not in name]
optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=1e-4)
images, labels = torch.randn(batch, 1, 28, 28), torch.zeros(batch, dtype=torch.long)
times = []
for _ in range(steps):
    begin = time.perf_counter()
    optimizer.zero_grad()
    loss = F.cross_entropy(net(images), labels)
    loss.backward()
    ran = time.perf_counter()
    with torch.no_grad():
        score = sum((p * p.grad).abs().sum() for p in scored).item() / sum(p.numel() for p in scored)
    loss.item()
    optimizer.step()
    times.append([(t - begin) * 1e3 for t in (time.perf_counter(), ran)])
print("step %.2f ms: forward and backward %.2f" % tuple(sorted(t)[len(t) // 2] for t in zip(*times)))
