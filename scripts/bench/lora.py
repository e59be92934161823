"""A LoRA step of a language model as its users take it with transformers and peft: rank, adapted maps and biases are those
of a lone anchor in ESTA."""

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from dialogue import talk
from model import LORA_R

MAPS = ("q_proj", "k_proj", "v_proj")
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def adapted(arch, dtype):
    """LLaMA's maps have no biases: those that ESTA trains beside the pairs are laid under peft as zeros."""
    net = LlamaForCausalLM(LlamaConfig(**arch, use_cache=False)).to(dtype)
    for name, part in net.named_modules():
        if name.endswith(MAPS):
            part.bias = nn.Parameter(torch.zeros(part.out_features, dtype=dtype))
    pairs = LoraConfig(r=LORA_R, lora_alpha=LORA_R, target_modules=list(MAPS), bias="lora_only", task_type="CAUSAL_LM")
    return get_peft_model(net, pairs)


class LoraStepper:
    """AdamW on the pairs and biases; texts of which every token but the first is learned."""

    def __init__(self, case, device):
        (arch,) = case["speakers"]
        self.tokens, self.vocabulary, self.device = case["tokens"], arch["vocab_size"], device
        self.net = adapted(arch, TYPES[case["precision"]]).to(device).train()
        self.trained = [p for p in self.net.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=1e-3, weight_decay=1e-4)

    def batch(self, rows):
        return (torch.randint(self.vocabulary, (rows, self.tokens), device=self.device),)

    def step(self, ids):
        self.optimizer.zero_grad()
        loss = self.net(input_ids=ids, labels=ids).loss
        loss.backward()
        self.optimizer.step()
        return loss.item(), None


talk(LoraStepper)
