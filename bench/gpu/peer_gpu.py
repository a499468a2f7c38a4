"""The PyTorch side of bench_gpu: the same nets, batches and optimiser, compiled, with CUDA graphs ("reduce-overhead"); prints
net, batch, microseconds a step, records/s, tab-separated."""
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
import torch  # noqa: E402
from peer import NETS  # noqa: E402

STEPS = 100


def main():
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    print("net\tbatch\tus_a_step\trecords_per_s")
    for name, batch in (("rnn", 64), ("cnn", 64), ("resnet", 128)):
        net = NETS[name]().cuda()
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-4, capturable=True)
        x = torch.randn(batch, 12, 1000, device="cuda")
        y = (torch.rand(batch, 5, device="cuda") < 0.3).float()

        @torch.compile(mode="reduce-overhead")
        def loss_of(x, y, net=net):
            return torch.nn.functional.binary_cross_entropy_with_logits(net(x), y)

        def step():
            optimiser.zero_grad(set_to_none=True)
            loss_of(x, y).backward()
            optimiser.step()

        for _ in range(10):
            step()
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        torch.cuda.synchronize()
        us = (time.perf_counter() - start) * 1e6 / STEPS
        print(f"{name}\t{batch}\t{us:.1f}\t{batch * 1e6 / us:.0f}", flush=True)


if __name__ == "__main__":
    main()
