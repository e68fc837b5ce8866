"""Optimizers and learning rate schedules."""

from graphc.optim import lr_scheduler, swa_utils
from graphc.optim.adafactor import Adafactor, Muon
from graphc.optim.adagrad import Adadelta, Adagrad, RMSprop
from graphc.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from graphc.optim.averaged import ASGD, Rprop
from graphc.optim.lbfgs import LBFGS
from graphc.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from graphc.optim.sgd import SGD

__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "lr_scheduler",
    "swa_utils",
]
