"""The PyTorch side of bench_train: reads "net batch steps" lines, trains that many steps on one thread, answers with the
processor seconds they took. The nets, losses and optimisers are the ones of nn/zoo.c and the `paper` recipe."""
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F


class Rnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(12, 64, batch_first=True)
        self.norm = nn.LayerNorm(64)
        self.fc = nn.Linear(512, 5)

    def forward(self, x):
        y = self.norm(self.lstm(x.transpose(1, 2))[0]).transpose(1, 2)
        return self.fc(F.dropout(F.max_pool1d(y, 125).flatten(1), 0.1))


def cnn():
    layers, width = [], 12
    for out in (32, 64, 96, 32):
        layers += [nn.Conv1d(width, out, 3, bias=False), nn.BatchNorm1d(out), nn.ReLU(), nn.MaxPool1d(3)]
        width = out
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.05), nn.Linear(352, 5))


class Block(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.c1, self.b1 = nn.Conv1d(i, o, 7, padding=3, bias=False), nn.BatchNorm1d(o)
        self.c2, self.b2 = nn.Conv1d(o, o, 5, padding=2, bias=False), nn.BatchNorm1d(o)
        self.c3, self.b3 = nn.Conv1d(o, o, 3, padding=1, bias=False), nn.BatchNorm1d(o)
        self.cs, self.bs = nn.Conv1d(i, o, 1, bias=False), nn.BatchNorm1d(o)

    def forward(self, x):
        y = F.relu(self.b1(self.c1(x)))
        y = F.relu(self.b2(self.c2(y)))
        return F.relu(self.b3(self.c3(y)) + self.bs(self.cs(x)))


class Resnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(12, 64), Block(64, 128), Block(128, 128))
        self.fc = nn.Linear(128, 5)

    def forward(self, x):
        return self.fc(self.blocks(x).mean(2))


NETS = {"rnn": Rnn, "cnn": cnn, "resnet": Resnet}


class Trainer:
    def __init__(self, name, batch):
        torch.manual_seed(1)
        self.net = NETS[name]()
        self.batch = batch
        self.x = torch.rand(512, 12, 1000) + torch.rand(512, 12, 1000) - 1
        self.y = (torch.rand(512, 5) < 0.3).float()
        self.optimiser = (torch.optim.SGD(self.net.parameters(), 1e-4, momentum=0.9, weight_decay=0.007, nesterov=True)
                          if name == "cnn" else torch.optim.Adam(self.net.parameters(), 1e-4))

    def step(self):
        rows = torch.randperm(512)[:self.batch]
        loss = F.binary_cross_entropy_with_logits(self.net(self.x[rows]), self.y[rows], reduction="sum") / self.batch
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def main():
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    trainers = {}
    for line in sys.stdin:
        name, batch, steps = line.split()
        if name not in trainers:
            trainers.clear()
            trainers[name] = Trainer(name, int(batch))
            trainers[name].step()
        start = time.process_time()
        for _ in range(int(steps)):
            trainers[name].step()
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main()
