"""The training step of src/training/trainer.py in PyTorch, for benchmark.py: it answers each line with ms per step.

Its arguments are those of `main`; Adam that is lazy moves the rows of a batch alone.
"""
import sys
import time

import torch
from torch import nn, optim


class NCF(nn.Module):
    """Both embeddings of a user, or of an item, lie in one table, which PyTorch handles faster than two."""

    def __init__(self, num_users, num_items, num_factors, layers, lazy):
        super().__init__()
        self.num_factors = num_factors
        width = num_factors + layers[0] // 2
        self.user, self.item = (nn.Embedding(rows, width, sparse=lazy) for rows in (num_users, num_items))
        self.mlp = nn.Sequential(*[module for a, b in zip(layers, layers[1:]) for module in (nn.Linear(a, b), nn.ReLU())])
        self.out = nn.Linear(num_factors + layers[-1], 1)

    def forward(self, user, item):
        user, item, f = self.user(user), self.item(item), self.num_factors
        mlp = self.mlp(torch.cat([user[:, f:], item[:, f:]], 1))
        return self.out(torch.cat([user[:, :f] * item[:, :f], mlp], 1))[:, 0]


def main():
    # Freeing a large block once makes glibc keep freed memory from then on, as in any program that has read a dataset;
    # else each step would fetch the memory of its gradients from the kernel anew, at almost twice the time.
    torch.ones(2 ** 22)
    lazy = sys.argv[1] == "lazy"
    num_users, num_items, groups, num_neg, num_factors, steps, *layers = map(int, sys.argv[2:])
    net = NCF(num_users, num_items, num_factors, layers, lazy)
    tables, others = [*net.user.parameters(), *net.item.parameters()], [*net.mlp.parameters(), *net.out.parameters()]
    optimizers = [optim.SparseAdam(tables), optim.Adam(others)] if lazy else [optim.Adam(net.parameters())]
    loss_of, width = nn.BCEWithLogitsLoss(), groups * (1 + num_neg)
    label = (torch.arange(width) % (1 + num_neg) == 0).float()
    batches = [(torch.randint(num_users, (groups,)).repeat_interleave(1 + num_neg), torch.randint(num_items, (width,)))
               for _ in range(steps)]

    def run():
        for user, item in batches:
            loss = loss_of(net(user, item), label)
            net.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()

    run()  # warms up
    print(torch.__version__, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run()
        print(1e3 * (time.perf_counter() - start) / steps, flush=True)


if __name__ == "__main__":
    main()
