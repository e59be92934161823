"""The step of `worker/examples/bench_step` in plain PyTorch."""

import torch
import torch.nn.functional as F

from dialogue import talk
from model import Speaker, Stitched


class Stepper:
    """AdamW on what trains of one path; an adapted one is scored, too."""

    def __init__(self, case, device):
        self.adapted, self.classes, self.device = case.get("adapted", True), case["classes"], device
        self.first = case["anchors"][case["path"][0][0]]
        self.net = Stitched(case["anchors"], case["path"], self.classes, self.adapted).to(device)
        self.trained = [p for p in self.net.parameters() if p.requires_grad]
        named = self.net.named_parameters()
        self.scored = [p for name, p in named if p.requires_grad and not name.startswith("head.")]
        self.active = sum(p.numel() for p in self.scored)
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-3, weight_decay=1e-4)

    def batch(self, images):
        side = self.first["image_size"]
        labels = torch.randint(self.classes, (images,), device=self.device)
        return torch.randn(images, self.first["in_chans"], side, side, device=self.device), labels

    def step(self, images, labels):
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.net(images), labels)
        loss.backward()
        score = self.score() if self.adapted else None
        self.optimizer.step()
        return loss.item(), score

    @torch.no_grad()
    def score(self):
        """|w g| over all that trains but the head, as one number."""
        products = torch._foreach_mul(self.scored, [p.grad for p in self.scored])
        return torch.stack(torch._foreach_norm(products, 1)).sum().item() / self.active


class TextStepper(Stepper):
    """The same on texts of which every token but the first is learned."""

    def __init__(self, case, device):
        self.adapted, self.tokens, self.device = True, case["tokens"], device
        self.vocabulary = case["speakers"][0]["vocab_size"]
        self.net = Speaker(case["speakers"], case["path"]).to(device)
        self.trained = self.scored = [p for p in self.net.parameters() if p.requires_grad]
        self.active = sum(p.numel() for p in self.scored)
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-3, weight_decay=1e-4)

    def batch(self, rows):
        ids = torch.randint(self.vocabulary, (rows, self.tokens), device=self.device)
        return ids, ids[:, 1:].flatten()

    def step(self, ids, labels):
        self.optimizer.zero_grad()
        logits = self.net(ids)[:, :-1]
        loss = F.cross_entropy(logits.flatten(0, 1), labels)
        loss.backward()
        score = self.score()
        self.optimizer.step()
        return loss.item(), score


talk(lambda case, device: (TextStepper if case.get("speakers") else Stepper)(case, device))
