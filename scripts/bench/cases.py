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
REDUCTION = {name: STEPS[name] for name in ("quickstart m>l", "ViT-Ti>S")}
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
