"""Stitched vision transformers exported by ESTA. This file needs PyTorch 2.1 or later and nothing else.

    model = load("stitch-12")                  # one stitch, adaptation folded into its weights
    logits = model(model.preprocess(images))   # uint8 images [B, C, H, W] of any size

    model = load_bundle("bundle")              # every stitch of a run over one set of weights
    model.set_stitch(12)                       # a stitch by its number in the catalog
    model.set_budget(1.2e9)                    # or the best that costs at most so many MACs per image

A stitch is a path: blocks of one vision transformer (an anchor), a linear stitching layer, blocks of another.

Shapes: B images, C channels, H and W sides in pixels, N tokens, D width, K classes, I inputs, O outputs of one part,
P parts of a fused projection (q, k, v), T adapted parts of them, r rank.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

FORMAT = "esta-stitched-vit"
VERSION = 1
NORM_EPS = 1e-6


def load(folder):
    """The stitch of a folder written by `esta-worker export --stitch` or `--palette`, in evaluation mode."""
    config = read_config(folder, "stitch")
    return filled(lambda tensors: StitchedViT(config), folder)


def load_bundle(folder):
    """The run of a folder written by `esta-worker export --bundle`, in evaluation mode; the largest stitch is set."""
    config = read_config(folder, "bundle")
    return filled(lambda tensors: StitchedFamily(config, tensors), folder)


class AdaptedLinear(nn.Linear):
    """W x + b, and what parameter-efficient stitch fine-tuning adds: scale B A x + b_stitch, for some of P parts."""

    def __init__(self, inputs, outputs, parts=1, targets=(0,), rank=0, scale=1.0):
        super().__init__(inputs, parts * outputs)
        self.parts, self.targets, self.scale = parts, list(targets), scale
        several = (len(self.targets),) if parts > 1 else ()
        if rank > 0 and self.targets:
            self.lora_A = nn.Parameter(torch.empty(*several, rank, inputs))
            self.lora_B = nn.Parameter(torch.empty(*several, outputs, rank))
        else:
            self.lora_A = self.lora_B = None

    def forward(self, x, own_bias=None):
        """`x [.., I] -> [.., P O]`; `own_bias` [T, O], or [O] where P is 1, is the stitch's own."""
        y = super().forward(x)
        if self.lora_A is None and own_bias is None:
            return y
        outputs = self.out_features // self.parts
        added = x.new_zeros(()) if own_bias is None else own_bias.view(-1, outputs)
        if self.lora_A is not None:
            a = self.lora_A.view(len(self.targets), -1, self.in_features)
            b = self.lora_B.view(len(self.targets), outputs, -1)
            added = added + self.scale * torch.einsum("...i,tri,tor->...to", x, a, b)
        added = added.expand(*y.shape[:-1], len(self.targets), outputs)
        where = torch.tensor(self.targets, device=y.device)
        return y.unflatten(-1, (self.parts, outputs)).index_add(-2, where, added).flatten(-2)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, arch, pst):
        super().__init__()
        dim, self.num_heads = arch["embed_dim"], arch["num_heads"]
        fused = [place for place, name in enumerate("qkv") if name in pst["targets"]]
        adapted = {"rank": pst["lora_r"], "scale": pst["scale"]}
        self.qkv = AdaptedLinear(dim, dim, parts=3, targets=fused, **adapted)
        self.proj = AdaptedLinear(dim, dim, targets=[0] if "o" in pst["targets"] else [], **adapted)

    def forward(self, x, own):
        heads = self.qkv(x, own.get("attn.qkv.bias")).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each [B, heads, N, D / heads]
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).flatten(2), own.get("attn.proj.bias"))


class Mlp(nn.Module):
    """Two linear maps with a GELU between them."""

    def __init__(self, arch, pst):
        super().__init__()
        dim, hidden = arch["embed_dim"], arch["embed_dim"] * arch["mlp_ratio"]
        adapted = {"rank": pst["lora_r"], "scale": pst["scale"]}
        self.fc1 = AdaptedLinear(dim, hidden, targets=[0] if "fc1" in pst["targets"] else [], **adapted)
        self.fc2 = AdaptedLinear(hidden, dim, targets=[0] if "fc2" in pst["targets"] else [], **adapted)

    def forward(self, x, own):
        return self.fc2(F.gelu(self.fc1(x, own.get("mlp.fc1.bias"))), own.get("mlp.fc2.bias"))


class Block(nn.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x)). `own` are the stitch's own biases on it, by name."""

    def __init__(self, arch, pst):
        super().__init__()
        self.norm1 = nn.LayerNorm(arch["embed_dim"], eps=NORM_EPS)
        self.attn = Attention(arch, pst)
        self.norm2 = nn.LayerNorm(arch["embed_dim"], eps=NORM_EPS)
        self.mlp = Mlp(arch, pst)

    def forward(self, x, own):
        x = x + self.attn(self.norm1(x), own)
        return x + self.mlp(self.norm2(x), own)


class PatchEmbed(nn.Module):
    """[B, C, H, W] -> [B, N - 1, D]"""

    def __init__(self, arch):
        super().__init__()
        patch = arch["patch_size"]
        self.proj = nn.Conv2d(arch["in_chans"], arch["embed_dim"], kernel_size=patch, stride=patch)

    def forward(self, images):
        return self.proj(images).flatten(2).transpose(1, 2)


class Ends(nn.Module):
    """What lies around the blocks of a network: embeddings of the front anchor; norm and head of the end anchor."""

    def __init__(self, front, end, num_classes):
        super().__init__()
        tokens = (front["image_size"] // front["patch_size"]) ** 2 + 1
        self.cls_token = nn.Parameter(torch.empty(1, 1, front["embed_dim"]))
        self.pos_embed = nn.Parameter(torch.empty(1, tokens, front["embed_dim"]))
        self.patch_embed = PatchEmbed(front)
        self.norm = nn.LayerNorm(end["embed_dim"], eps=NORM_EPS)
        self.head = nn.Linear(end["embed_dim"], num_classes)

    def embed(self, images):
        """[B, C, H, W] -> [B, N, D]"""
        cls_token = self.cls_token.expand(len(images), -1, -1)
        return torch.cat([cls_token, self.patch_embed(images)], dim=1) + self.pos_embed

    def classify(self, x):
        """[B, N, D] -> [B, K]"""
        return self.head(self.norm(x[:, 0]))


class Preprocessing:
    """From images to the networks' input, in the steps of the run's evaluation."""

    def preprocess(self, images):
        """uint8 [B, C, H, W] or [C, H, W], grey or RGB -> float [B, C', S, S], resized and normalised."""
        steps, side = self.config["preprocess"], self.config["input_size"][-1]
        images = images if images.dim() == 4 else images[None]
        images = with_channels(images, self.config["input_size"][0])
        sides = images.shape[-2:]
        if steps["resize"] == "direct":
            images = resized(images, (side, side))
        else:
            # The shorter side to 8/7 of the input, the longer in proportion, then the middle.
            shorter = side * 8 // 7
            height, width = (shorter * length // min(sides) for length in sides)
            top, left = (round((length - side) / 2) for length in (height, width))
            images = resized(images, (height, width))[..., top : top + side, left : left + side]
        mean, std = (images.new_tensor(steps[name], dtype=torch.float32)[:, None, None] for name in ("mean", "std"))
        return (images.float() / 255 - mean) / std


class StitchedViT(Preprocessing, Ends):
    """One stitch with its adaptation folded into plain weights. A lone anchor has timm's names and shapes."""

    def __init__(self, config):
        segments = config["segments"]
        super().__init__(segments[0]["arch"], segments[-1]["arch"], config["num_classes"])
        self.config = config
        lengths = [segment["last"] - segment["first"] + 1 for segment in segments]
        plain = {"targets": "", "lora_r": 0, "scale": 1.0}
        self.blocks = nn.ModuleList(
            Block(segment["arch"], plain) for segment, length in zip(segments, lengths) for _ in range(length)
        )
        widths = [segment["arch"]["embed_dim"] for segment in segments]
        self.stitch_layers = nn.ModuleList(nn.Linear(here, there) for here, there in zip(widths, widths[1:]))
        # The block in front of which each stitching layer acts.
        self.entries = {sum(lengths[: place + 1]): place for place in range(len(self.stitch_layers))}

    def forward(self, images):
        """[B, C, H, W] -> logits [B, K]"""
        x = self.embed(images)
        for number, block in enumerate(self.blocks):
            if number in self.entries:
                x = self.stitch_layers[self.entries[number]](x)
            x = block(x, {})
        return self.classify(x)


class Anchor(Ends):
    """One pre-trained network of the family and the adaptation that all stitches through it share."""

    def __init__(self, arch, num_classes, pst):
        super().__init__(arch, arch, num_classes)
        self.blocks = nn.ModuleList(Block(arch, pst) for _ in range(arch["depth"]))


class Tree(nn.Module):
    """Parameters under dotted names."""

    def put(self, name, parameter):
        here, _, rest = name.partition(".")
        if not rest:
            self.register_parameter(here, parameter)
            return
        if here not in self._modules:
            self.add_module(here, Tree())
        self._modules[here].put(rest, parameter)


class StitchedFamily(Preprocessing, nn.Module):
    """All stitches of a run: anchors, shared low-rank updates and stitching layers once, every stitch's own biases."""

    def __init__(self, config, tensors):
        """`tensors` by name say which stitches have biases of their own, and where."""
        super().__init__()
        self.config, pst = config, config["pst"]
        archs = [anchor["arch"] for anchor in config["anchors"]]
        self.anchors = nn.ModuleList(Anchor(arch, config["num_classes"], pst) for arch in archs)
        self.stitch_layers = nn.ModuleDict()
        for layer in config["layers"]:
            front, end = (archs[layer[side]]["embed_dim"] for side in ("from", "to"))
            self.stitch_layers[str(layer["id"])] = AdaptedLinear(front, end, rank=layer["rank"])
        self.stitches = Tree()
        for name, tensor in tensors.items():
            if name.startswith("stitches."):
                self.stitches.put(name.removeprefix("stitches."), nn.Parameter(torch.empty(tensor.shape)))
        self.catalog = {stitch["id"]: stitch for stitch in config["stitches"]}
        self.set_stitch(max(config["stitches"], key=lambda stitch: stitch["macs"])["id"])

    def set_stitch(self, number):
        """Runs this stitch from now on; returns its entry in the catalog."""
        if number not in self.catalog:
            raise ValueError(f"the bundle has no stitch {number}")
        self.stitch = self.catalog[number]
        return self.stitch

    def set_budget(self, macs, rule=None):
        """Runs the best stitch of at most so many MACs per image from now on; returns its entry in the catalog."""
        return self.set_stitch(self.best(macs, rule)["id"])

    def best(self, macs, rule=None):
        """The catalog's entry of highest value by a rule (the run's own when absent) among those of at most `macs`."""
        rule = rule or self.config["rule"]
        rated = [stitch for stitch in self.catalog.values() if rule in stitch["values"]]
        if not rated:
            raise ValueError(f"the bundle holds no values of the rule {rule!r}: use set_stitch")
        allowed = [stitch for stitch in rated if stitch["macs"] <= macs]
        if not allowed:
            least = min(stitch["macs"] for stitch in rated)
            raise ValueError(f"no stitch costs at most {macs:.0f} MACs: the smallest costs {least}")
        return min(allowed, key=lambda stitch: (-stitch["values"][rule], stitch["macs"], stitch["id"]))

    def forward(self, images):
        """[B, C, H, W] -> logits [B, K] of the stitch that is set"""
        segments, own = self.stitch["segments"], self.own_biases()
        x = self.anchors[segments[0]["anchor"]].embed(images)
        for place, segment in enumerate(segments):
            if place > 0:
                layer = self.stitch_layers[str(self.stitch["layers"][place - 1])]
                x = layer(x, own.get(f"layers.{place - 1}.bias"))
            for number in range(segment["first"], segment["last"] + 1):
                prefix = f"{place}.blocks.{number}."
                mine = {part: own[prefix + part] for part in BLOCK_BIASES if prefix + part in own}
                x = self.anchors[segment["anchor"]].blocks[number](x, mine)
        return self.anchors[segments[-1]["anchor"]].classify(x)

    def own_biases(self):
        """The biases of the stitch that is set, by name."""
        tree = self.stitches._modules.get(str(self.stitch["id"]))
        return {} if tree is None else dict(tree.named_parameters())


BLOCK_BIASES = ("attn.qkv.bias", "attn.proj.bias", "mlp.fc1.bias", "mlp.fc2.bias")


def with_channels(images, channels):
    """Grey repeated to RGB, RGB weighted to grey by ITU-R 601's luma in 16-bit fixed point."""
    if images.shape[1] == channels:
        return images
    if images.shape[1] == 1:
        return images.expand(-1, channels, -1, -1)
    weights = torch.tensor([19595, 38470, 7471], device=images.device)[:, None, None]
    return (((images * weights).sum(1, keepdim=True) + 0x8000) >> 16).to(torch.uint8)


def resized(images, size):
    """Antialiased bicubic in 8 bits, as PIL: only the CPU has it."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images.cpu(), size=size, mode="bicubic", antialias=True).to(images.device)


def read_config(folder, kind):
    """`config.json` of a folder, refused unless this file can load it."""
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    found = (config.get("format"), config.get("version"), config.get("kind"))
    if found[:2] != (FORMAT, VERSION):
        raise ValueError(f"{folder}: format {found[0]!r} version {found[1]!r}, expected {FORMAT!r} version {VERSION}")
    if found[2] != kind:
        right = "load_bundle" if found[2] == "bundle" else "load"
        raise ValueError(f"{folder} holds a {found[2]}: use {right}")
    return config


def filled(build, folder):
    """A module built without memory of its own, then given the tensors of `model.safetensors`, each exactly once."""
    tensors = read_safetensors(Path(folder, "model.safetensors"))
    with torch.device("meta"):
        module = build(tensors)
    module.load_state_dict(tensors, strict=True, assign=True)
    return module.eval()


DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


def read_safetensors(path):
    """Tensors by name: 8 bytes of header length, a JSON header, then the numbers, little-endian."""
    data = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    if not 8 <= start <= len(data):
        raise ValueError(f"{path} is not a safetensors file")
    tensors = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        dtype, shape, (begin, end) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        count = math.prod(shape)
        if end - begin != count * dtype.itemsize or start + end > len(data):
            raise ValueError(f"{path}: tensor {name} does not fit its place")
        empty = torch.empty(shape, dtype=dtype)
        tensors[name] = (
            torch.frombuffer(data, dtype=dtype, count=count, offset=start + begin).view(shape) if count else empty
        )
    return tensors
