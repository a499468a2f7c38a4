"""The PyTorch side of bench_observer: BATCHES VALUES; prints the processor seconds that HistogramObserver takes for them."""
import sys
import time

import torch
from torch.ao.quantization.observer import HistogramObserver

torch.set_num_threads(1)
batches, values = int(sys.argv[1]), int(sys.argv[2])
generator = torch.Generator().manual_seed(1)
data = []
for b in range(batches):
    u = torch.rand(values, generator=generator)
    data.append(torch.where(u < 0.5, torch.zeros(()), -torch.log(2 - 2 * u + 1e-7)) * (1 + b / 64))
observer = HistogramObserver(reduce_range=True)
start = time.process_time()
for x in data:
    observer(x)
observer.calculate_qparams()
print(time.process_time() - start)
