"""Writes the golden files beside it: tiny timm vision transformers with random weights, an input and its logits.

    python make_golden.py        (torch 2.11, timm 1.0, safetensors)

`plain` and `colour` hold f32 weights; `colour_224` is `colour` resized by timm itself to another grid;
`half` holds the weights of `plain` in bfloat16 and float16, with the logits of those rounded weights.
"""

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

HERE = Path(__file__).parent
CLASSES = 7


def network(seed, **shape):
    torch.manual_seed(seed)
    net = VisionTransformer(num_classes=CLASSES, **shape).eval()
    with torch.no_grad():
        for parameter in net.parameters():  # every tensor counts: none may stay zero or one
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return net


def write(name, net, weights=None):
    weights = weights or net.state_dict()
    net.load_state_dict({key: value.float() for key, value in weights.items()})
    images = torch.randn(2, *net.patch_embed.proj.weight.shape[1:2], *net.patch_embed.img_size)
    with torch.no_grad():
        logits = net(images)
    save_file({key: value.contiguous() for key, value in weights.items()}, HERE / f"{name}.safetensors")
    save_file({"images": images, "logits": logits}, HERE / f"{name}.case.safetensors")


def main():
    print("torch", torch.__version__, "timm", timm.__version__)
    plain = dict(img_size=16, patch_size=4, in_chans=1, embed_dim=12, num_heads=3, depth=2)
    write("plain", network(1, **plain))
    colour = dict(patch_size=5, in_chans=3, embed_dim=10, num_heads=2, depth=3, mlp_ratio=2)
    net = network(2, img_size=15, **colour)
    write("colour", net)

    # The file `colour` read for images of another size: only the case is written, timm resizes.
    for size in (35, 10):
        resized = network(2, img_size=size, **colour)
        weights = dict(net.state_dict())
        grid = [size // 5, size // 5]
        weights["pos_embed"] = resample_abs_pos_embed(weights["pos_embed"], grid)
        resized.load_state_dict(weights)
        images = torch.randn(2, 3, size, size)
        with torch.no_grad():
            case = {"images": images, "logits": resized(images), "pos_embed": resized.pos_embed.detach()}
        save_file(case, HERE / f"colour_{size}.case.safetensors")

    net = network(3, **plain)
    kinds = {
        key: value.to(torch.bfloat16 if number % 2 else torch.float16)
        for number, (key, value) in enumerate(net.state_dict().items())
    }
    write("half", net, kinds)


if __name__ == "__main__":
    main()
