"""What is measured: families of anchors, and stitches as (anchor, first block, last block)."""


def vit(image_size, patch_size, in_chans, depth, sizes):
    shared = dict(image_size=image_size, patch_size=patch_size, in_chans=in_chans, depth=depth)
    return [dict(shared, embed_dim=width, num_heads=heads) for width, heads in sizes]


QUICKSTART = vit(28, 7, 1, 6, [(16, 2), (40, 2), (96, 3)])
VIT = vit(224, 16, 3, 12, [(192, 3), (384, 6), (768, 12)])


def case(anchors, path, images=1, **rest):
    return dict(anchors=anchors, path=path, images=images, classes=10, **rest)


STEPS = {
    "quickstart s": case(QUICKSTART, [(0, 0, 5)], 16),
    "quickstart s>m": case(QUICKSTART, [(0, 0, 2), (1, 3, 5)], 16),
    "quickstart m>l": case(QUICKSTART, [(1, 0, 2), (2, 3, 5)], 16),
    "quickstart l": case(QUICKSTART, [(2, 0, 5)], 16),
    "ViT-Ti": case(VIT[:2], [(0, 0, 11)], 8),
    "ViT-Ti>S": case(VIT[:2], [(0, 0, 5), (1, 6, 11)], 8),
}
WATCHED = ("quickstart s", "quickstart l", "ViT-Ti>S")
REDUCTION = {name: STEPS[name] for name in ("quickstart m>l", "ViT-Ti>S")}


def speaker(depth, width, heads, groups, hidden, d_head, vocabulary=4096):
    return dict(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=hidden, num_hidden_layers=depth,
        num_attention_heads=heads, num_key_value_heads=groups, head_dim=d_head,
    )


# As configs/quickstart-llm/_base.yaml has them.
QUICKSTART_LLM = [speaker(5, 128, 4, 2, 320, 32), speaker(6, 184, 6, 3, 512, 32)]
# Blocks of SmolLM2's widths, six of them, on a small vocabulary: what a step of real models is made of.
SMOL = [speaker(6, 576, 9, 3, 1536, 64), speaker(6, 960, 15, 5, 2560, 64)]


def text_case(speakers, path, rows, tokens):
    return dict(speakers=speakers, path=path, images=rows, tokens=tokens)


TEXT_STEPS = {
    "quickstart-llm s": text_case(QUICKSTART_LLM, [(0, 0, 4)], 2, 256),
    "quickstart-llm s>l": text_case(QUICKSTART_LLM, [(0, 0, 1), (1, 2, 5)], 2, 256),
    "quickstart-llm l": text_case(QUICKSTART_LLM, [(1, 0, 5)], 2, 256),
    "SmolLM2 blocks, both widths": text_case(SMOL, [(0, 0, 2), (1, 3, 5)], 1, 256),
}


def lone(arch, rows, tokens):
    return dict(text_case([arch], [(0, 0, arch["num_hidden_layers"] - 1)], rows, tokens), mode="anchor")


# One anchor alone: what transformers and peft train, too. They refuse the width of the quickstart's large one.
LORA_STEPS = {
    "quickstart-llm s": lone(QUICKSTART_LLM[0], 2, 256),
    "SmolLM2 360M's blocks": lone(SMOL[1], 2, 256),
}
PRECISIONS = {"f32": "single precision", "bf16": "bfloat16"}
# The whole family is resident, as in a run; batches are chosen where memory is measured.
MEMORY = {
    "ViT-Ti": case(VIT, [(0, 0, 11)]),
    "ViT-S": case(VIT, [(1, 0, 11)]),
    "ViT-B": case(VIT, [(2, 0, 11)]),
    "ViT-S>B": case(VIT, [(1, 0, 5), (2, 6, 11)]),
}
MEMORY_IMAGES = {"cpu": (2, 8), "cuda": (32, 128)}
# What is measured as glibc comes, too; whose largest batch is sought.
KEPT = "ViT-S>B"
LARGEST = ("ViT-S>B",)
