#!/usr/bin/env python3
"""Makes tests/golden/nn/data/*.safetensors from PyTorch (float64) and scikit-learn.

    python3 gen.py OUT

Inputs and parameters are not stored: both sides compute them from `noise` below. What is stored per case:
logits, loss and every gradient of the first step, the losses of ten optimiser steps, the parameters and running
statistics after them, and the logits in evaluation mode. Tensors over 64 elements are stored as 64 evenly spaced
elements and their 2-norm.

A float32 net and its float64 twin differ where a ReLU's input lies within rounding of zero or two values in a pool's
window are as near; so the inputs' phase is searched until nothing comes that near (the ResNet has millions of
chances: it takes one step at full length and ten on short records, and its files list each step's ReLU inputs within
1e-4 of zero with their signs, so that the test can tell a flipped ReLU from a wrong gradient). For the same reason Adam's eps is 1e-4 here: with 1e-8 a gradient that is zero but for rounding still moves its weight by a whole
step, up or down.
"""
import math
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score
from torch import nn

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
STEPS = 10  # of the optimisers alone


def noise(n, phase):
    """Uniform-looking numbers in [0, 1), the same in C."""
    x = np.sin((np.arange(n) % 7919 + 1) * 12.9898 + phase * 78.233 + (np.arange(n) // 7919) * 0.731) * 4375.85453
    return torch.from_numpy(x - np.floor(x))


nearest = []  # how near ReLUs came to zero and pools to a tie, since last cleared
near = []  # of each ReLU since last cleared: its inputs within 1e-4 of zero, as (number of the ReLU << 18) + place + 1
# with the input's sign


def relu(x):
    nearest.append(x.detach().abs().min().item())
    flat = x.detach().reshape(-1)
    at = (flat.abs() < 1e-4).nonzero().reshape(-1)
    near.append((((len(near) << 18) + at + 1) * flat[at].sign()).numpy().astype(np.float32))
    return torch.relu(x)


def max_pool(x, k):
    two = x.detach().unfold(2, k, k).topk(2).values
    gap = two[..., 0] - two[..., 1]
    nearest.append(gap[two[..., 0] != 0].min().item())  # what ReLU cut to zero passes no gradient
    return nn.functional.max_pool1d(x, k)


class Rnn(nn.Module):
    def __init__(self, widths):
        super().__init__()
        h, = widths
        self.lstm = nn.LSTM(12, h, batch_first=True)
        self.norm = nn.LayerNorm(h)
        self.fc = nn.Linear(8 * h, 5)

    def forward(self, x):
        y = self.norm(self.lstm(x.transpose(1, 2))[0]).transpose(1, 2)
        return self.fc(max_pool(y, 125).flatten(1))


class Cnn(nn.Module):
    def __init__(self, widths):
        super().__init__()
        c = 12
        for i, w in enumerate(widths, 1):
            setattr(self, f"conv{i}", nn.Conv1d(c, w, 3, bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm1d(w))
            c = w
        self.fc = nn.Linear(11 * c, 5)

    def forward(self, x):
        for i in range(1, 5):
            x = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(x))
            x = max_pool(relu(x), 3)
        return self.fc(x.flatten(1))


class Block(nn.Module):
    def __init__(self, c, widths):
        super().__init__()
        start = c
        for i, (w, k) in enumerate(zip(widths, (7, 5, 3)), 1):
            setattr(self, f"conv{i}", nn.Conv1d(c, w, k, padding="same", bias=False))
            setattr(self, f"bn{i}", nn.BatchNorm1d(w))
            c = w
        self.convs = nn.Conv1d(start, c, 1, bias=False)
        self.bns = nn.BatchNorm1d(c)

    def forward(self, x):
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        return relu(self.bn3(self.conv3(y)) + self.bns(self.convs(x)))


class Resnet(nn.Module):
    def __init__(self, widths):
        super().__init__()
        c = 12
        for i in range(3):
            setattr(self, f"block{i + 1}", Block(c, widths[3 * i:3 * i + 3]))
            c = widths[3 * i + 2]
        self.fc = nn.Linear(c, 5)

    def forward(self, x):
        return self.fc(self.block3(self.block2(self.block1(x))).mean(2))


class Beat(nn.Module):
    def __init__(self, widths):
        super().__init__()
        a, b, c, d, e = widths
        self.conv1, self.conv2, self.conv3 = nn.Conv1d(1, a, 3), nn.Conv1d(a, b, 4), nn.Conv1d(b, c, 4)
        self.fc1, self.fc2, self.fc3 = nn.Linear(30 * c, d), nn.Linear(d, e), nn.Linear(e, 5)

    def forward(self, x):
        for conv in (self.conv1, self.conv2, self.conv3):
            x = max_pool(relu(conv(x)), 2)
        return self.fc3(relu(self.fc2(relu(self.fc1(x.flatten(1))))))


# class, widths, optimiser (study A's own, and AdamW for `beat`), records
NETS = {
    "rnn": (Rnn, {"whole": [64], "pruned": [7]}, lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-4), 2),
    "cnn": (Cnn, {"whole": [32, 64, 96, 32], "pruned": [4, 8, 12, 5]},
            lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.995, nesterov=True, weight_decay=0.007), 3),
    "resnet": (Resnet, {"whole": [64, 64, 64, 128, 128, 128, 128, 128, 128], "pruned": [8, 7, 9, 16, 13, 11, 5, 16, 3]},
               lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-4), 2),
    "beat": (Beat, {"whole": [5, 10, 20, 30, 20], "pruned": [3, 5, 9, 7, 4]},
             lambda p: torch.optim.AdamW(p, lr=1e-3, eps=1e-4, weight_decay=0.01), 5),
}


def fill(module):
    """Parameters by name, in the module's order; every kind gets values that exercise it."""
    for name, p in sorted(module.state_dict().items()):
        if name.endswith("num_batches_tracked"):
            continue
        u = noise(p.numel(), len(name) + 0.1 * sum(map(ord, name))).reshape(p.shape)
        if p.ndim > 1:
            p.copy_((2 * u - 1) * math.sqrt(3.0 / p[0].numel()))
        elif name.endswith("running_mean") or (name.endswith("bias") or "bias_" in name):
            p.copy_(0.4 * (u - 0.5))
        else:
            p.copy_(0.6 + 0.8 * u)


def sampled(t):
    v = t.detach().numpy().reshape(-1)
    n = len(v)
    if n <= 64:
        return v.astype(np.float32)
    picked = v[np.arange(64) * n // 64]
    return np.concatenate([picked, [np.linalg.norm(v)]]).astype(np.float32)


def loss_of(net, z, y, t, alpha):
    """Study A's loss: hard and soft, summed over labels, mean over the batch."""
    if net == "beat":
        logp = torch.log_softmax(z, 1)
        hard = -(y * logp).sum(1)
        soft = (t * (t.log() - logp)).sum(1)
    else:
        logp, logq = nn.functional.logsigmoid(z), nn.functional.logsigmoid(-z)
        hard = -(y * logp + (1 - y) * logq).sum(1)
        soft = (t * (t.log() - logp) + (1 - t) * ((1 - t).log() - logq)).sum(1)
    return (alpha * hard + (1 - alpha) * soft).mean()


def inputs(net, records, samples, phase):
    leads = 1 if net == "beat" else 12
    n = records * leads * samples
    i = torch.arange(n)
    x = 1.5 * (2 * noise(n, phase) - 1) + torch.sin(0.05 * (i % samples) * (1 + i // samples % 5))
    x = x.to(torch.float32).to(torch.float64).reshape(records, leads, samples)
    u = noise(records * 5, 2).reshape(records, 5)
    y = (u > 0.5).double()
    t = 0.02 + 0.96 * noise(records * 5, 3).reshape(records, 5)
    if net == "beat":
        y = nn.functional.one_hot(torch.arange(records) * 2 % 5, 5).double()
        t = t / t.sum(1, keepdim=True)
    t = t.to(torch.float32).to(torch.float64)
    return x, y, t


def train(net, which, alpha, samples, steps, phase):
    cls, widths, optimiser, records = NETS[net]
    module = cls(widths[which])
    with torch.no_grad():
        fill(module)
        for p in module.state_dict().values():
            if p.is_floating_point():
                p.copy_(p.to(torch.float32).to(torch.float64))
    x, y, t = inputs(net, records, samples, phase)
    out, losses = {}, []
    opt = optimiser(module.parameters())
    module.train()
    nearest.clear()
    for step in range(steps):
        near.clear()
        opt.zero_grad()
        z = module(x)
        if nearest and min(nearest) < (1e-5 if samples < 100 else 1e-6):
            return None
        loss = loss_of(net, z, y, t, alpha)
        loss.backward()
        if step == 0:
            out["logits"] = z.detach().numpy().astype(np.float32)
            for name, p in module.named_parameters():
                out["grad." + name] = sampled(p.grad)
        if net == "resnet":
            out[f"near{step}"] = np.concatenate(near + [np.zeros(1, np.float32)])
        losses.append(loss.item())
        opt.step()
    for name, p in module.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            out["after." + name] = sampled(p)
    module.eval()
    out["eval"] = module(x).detach().numpy().astype(np.float32)
    out["losses"] = np.array(losses, np.float32)
    out["phase"] = np.array([phase], np.float32)
    return out


def case(net, which, alpha, samples, steps):
    for phase in range(1, 200):
        out = train(net, which, alpha, samples, steps, phase)
        if out:
            return out
    raise SystemExit(f"{net} {which}: no phase keeps all ReLUs away from zero")


def optimisers():
    """Ten steps on a vector whose gradients are given, per optimiser and its options."""
    makers = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.01),
        "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.995, nesterov=True, weight_decay=0.007),
        "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.02),
        "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.05, betas=(0.8, 0.95), eps=1e-6),
        "clip": lambda p: torch.optim.Adam(p, lr=0.01),
    }
    out = {}
    for name, make in makers.items():
        w = nn.Parameter(2 * noise(100, 4) - 1)
        opt = make([w])
        for step in range(STEPS):
            w.grad = (2 * noise(100, 5 + step) - 1) * 10.0 ** (step % 3 - 1)
            if name == "clip":
                nn.utils.clip_grad_norm_([w], 0.7)
            opt.step()
        out[name] = w.detach().numpy().astype(np.float32)
    return out


def schedules():
    p = [nn.Parameter(torch.zeros(1))]
    out = {}

    def rates(make, steps, arg=lambda i: ()):
        opt = torch.optim.SGD(p, lr=1e-3)
        s, lrs = make(opt), []
        for i in range(steps):
            lrs.append(opt.param_groups[0]["lr"])
            opt.step()
            s.step(*arg(i))
        return np.array(lrs, np.float32)

    lr = torch.optim.lr_scheduler
    out["cosine"] = rates(lambda o: lr.CosineAnnealingWarmRestarts(o, 7, eta_min=1e-6), 30)
    losses = [1.0, 0.9, 0.8, 0.8, 0.81, 0.79995, 0.85, 0.7, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75] * 3
    out["plateau_losses"] = np.array(losses, np.float32)
    losses = out["plateau_losses"].astype(np.float64).tolist()
    out["plateau"] = rates(lambda o: lr.ReduceLROnPlateau(o, factor=0.5, patience=2, min_lr=2e-4), 48,
                           lambda i: (losses[i],))
    out["one_cycle"] = rates(lambda o: lr.OneCycleLR(o, 4e-3, total_steps=60, pct_start=0.2, div_factor=25,
                                                     final_div_factor=4e-3 / 25 / 1e-6), 60)[:59]
    return out


def pools():
    """Max-pool with many ties: integers."""
    x = torch.floor(noise(3 * 4 * 50, 30) * 4).reshape(3, 4, 50).requires_grad_()
    out = {}
    for k in (2, 3, 7):
        x.grad = None
        y = nn.functional.max_pool1d(x, k)
        (y * (1 + torch.arange(y.numel()).reshape(y.shape))).sum().backward()
        out[f"y{k}"], out[f"dx{k}"] = y.detach().numpy().astype(np.float32), x.grad.numpy().astype(np.float32)
    return out


def metrics():
    out = {}
    for i, (n, levels) in enumerate([(50, 0), (200, 7), (1000, 100), (37, 2)]):
        p = noise(n * 5, 40 + i).numpy().reshape(n, 5)
        y = (noise(n * 5, 50 + i).numpy().reshape(n, 5) < 0.2 + 0.3 * p).astype(np.float64)
        p = np.floor(p * levels) / levels if levels else p
        p = p.astype(np.float32)
        out[f"p{i}"], out[f"y{i}"] = p, y.astype(np.float32)
        out[f"auroc{i}"] = np.array([roc_auc_score(y[:, k], p[:, k]) for k in range(5)], np.float32)
        truth, guess = y.argmax(1), p.argmax(1)
        out[f"report{i}"] = np.stack(precision_recall_fscore_support(
            truth, guess, labels=range(5), zero_division=0)[:3]).astype(np.float32)
    return out


def main():
    where = sys.argv[1]
    for net in NETS:
        for which in ("whole", "pruned"):
            for kind, alpha in (("plain", 1.0), ("distilled", 0.4)):
                sizes = {"resnet": [("", 1000, 1), ("-short", 12, 10)], "beat": [("", 260, 10)]}
                for suffix, samples, steps in sizes.get(net, [("", 1000, 10)]):
                    print(net + suffix, which, kind, flush=True)
                    save_file(case(net, which, alpha, samples, steps),
                              f"{where}/{net}{suffix}-{which}-{kind}.safetensors")
    save_file(optimisers(), f"{where}/optimisers.safetensors")
    save_file(schedules(), f"{where}/schedules.safetensors")
    save_file(pools(), f"{where}/pools.safetensors")
    save_file(metrics(), f"{where}/metrics.safetensors")


if __name__ == "__main__":
    main()
