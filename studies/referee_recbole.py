"""Trains a model of RecBole and ranks the test items by it, for the study `referee`; needs no part of this program.

  python studies/referee_recbole.py FOLDER NAME MODEL SEED OUT

FOLDER/NAME/NAME.inter is the data. All is RecBole's own and by default, but for the split and the metrics. OUT is a .npy of
(3, users): the ranks of the test items, these items, and how many items were ranked.
"""
import os
import sys

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

folder, name, model, seed, out = sys.argv[1:]
sys.argv[1:] = []  # which RecBole would read
os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"  # it reads checkpoints of its own making
config = Config(model, name, config_dict={
    "data_path": folder, "checkpoint_dir": folder, "seed": int(seed), "use_gpu": False, "show_progress": False,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "metrics": ["Hit", "NDCG"], "topk": 10,
    "valid_metric": "NDCG@10",
    "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}})
init_seed(config["seed"], True)
data = create_dataset(config)
train, validation, test = data_preparation(config, data)
trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, get_model(model)(config, train.dataset))
trainer.fit(train, validation, saved=True, show_progress=False)
said = trainer.evaluate(test, show_progress=False)  # by the parameters of the best epoch
ranks, item, count = found = np.full((3, data.user_num - 1), -1)
with torch.no_grad():
    for batch in test:
        users, scores, row, target = trainer._full_sort_batch_eval(batch)
        place = data.id2token("user_id", users["user_id"]).astype(int)
        item[place] = data.id2token("item_id", target).astype(int)
        ranks[place] = (scores >= scores[row, target][:, None]).sum(1) - 1  # what scores the same counts as before it
        count[place] = torch.isfinite(scores).sum(1)
assert abs((ranks < 10).mean() - said["hit@10"]) < 0.002, said  # it sorts equal scores as they come
np.save(out, found)
