"""A convolutional network that reads handwritten digits.

    python examples/digits.py --seed 0      trains for 12 epochs; 99 % of the held-back digits right

An ordinary torch program, but for the name that it imports.
"""

import argparse
import time

import graphc as torch
from graphc import nn
from graphc.data import load_digits

HELD_BACK = 360  # chosen by one shuffle, never used to choose anything
LEARNING_RATE, SMOOTHING = 3e-3, 0.1


class Network(nn.Module):
    """float32 [batch, 1, 8, 8] -> logits [batch, 10]"""

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = convolution(1, 16)
        self.conv2, self.norm2 = convolution(16, 32)
        self.conv3, self.norm3 = convolution(32, 64)
        self.head = nn.Linear(64 * 2 * 2, 10)

    def forward(self, images):
        x = self.norm1(self.conv1(images)).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = nn.functional.max_pool2d(x, 2)
        x = self.norm3(self.conv3(x)).relu()
        x = nn.functional.max_pool2d(x, 2)
        return self.head(x.flatten(1))


def convolution(channels_in, channels_out):
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1)
    return layer, nn.BatchNorm2d(channels_out)


def read_digits():
    """(images, labels) to train on, and those held back, the same for every seed of a training."""
    images, labels = load_digits()
    images = torch.from_numpy(images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(labels).long()
    torch.manual_seed(0)
    order = torch.randperm(len(labels))
    images, labels = images[order], labels[order]
    return (images[HELD_BACK:], labels[HELD_BACK:]), (images[:HELD_BACK], labels[:HELD_BACK])


def train(images, labels, epochs=12, batch=32, seed=0, report=None):
    """Trains a new network. Returns it and the loss of each step.

    report(epoch, mean loss), where given, is called after each epoch. What does not fill a batch
    is left out of an epoch, another part of the images each time.
    """
    torch.manual_seed(seed)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    steps = len(labels) // batch
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
    losses = []
    for epoch in range(epochs):
        order = torch.randperm(len(labels))
        for rows in order[: steps * batch].view(steps, batch):
            logits = network(images[rows])
            loss = nn.functional.cross_entropy(logits, labels[rows], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        if report:
            report(epoch, sum(losses[-steps:]) / steps)
    return network, losses


@torch.no_grad()
def accuracy(network, images, labels):
    """The share of the images that the network, in evaluation mode, reads right."""
    network.eval()
    return (network(images).argmax(1) == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="default: all cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

    def report(epoch, loss):
        print(f"epoch {epoch:3d}  loss {loss:.4f}")

    training, held_back = read_digits()
    began = time.perf_counter()
    network, _ = train(*training, options.epochs, options.batch, options.seed, report)
    took = time.perf_counter() - began
    print(f"accuracy on {HELD_BACK} held back: {accuracy(network, *held_back):.2%}   {took:.1f} s")


if __name__ == "__main__":
    main()
