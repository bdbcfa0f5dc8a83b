import numpy as np

from src.dataset import load_dataset
from src.evaluation.withdraw import membership_auc
from src.influence.withdrawal import ITEM_PRIOR, Withdrawal
from src.movielens import prepare
from src.network import build
from src.training.train import train_in_memory


def test_items_take_one_newton_step_by_the_change_in_gradient(cpu, ratings, settings):
    """MF, whose Hessian in an item's row is that of logistic regression; that of others has a test of its own."""
    config = settings("--model", "mf", "--num_factors", 3, "--embedding_std", .5)
    dataset = load_dataset(config)
    net, seen, withdrawn = build(dataset, config), {}, np.arange(dataset.num_interactions) < 2
    values, user, probe = net.values(), dataset.user[0], Withdrawal(net, dataset, config)
    others, refit, history, refits = probe._hessian_of_others, probe._refit, dataset.item[dataset.user == user], []
    probe._hessian_of_others = lambda items, users: seen.setdefault("h", others(items, users))
    probe._refit = lambda *arguments: refits.append(refit(*arguments)) or refits[-1]
    found = probe({"a": values}, withdrawn)["a"]
    item_rows, moved = net.item_rows(values).astype(float), (net.item_rows(found) != net.item_rows(values)).any(1)
    assert set(np.flatnonzero(moved)) == set(history)
    precision = np.linalg.inv(np.cov(item_rows.T, bias=True) + 1e-3 * item_rows.var(0).sum() / 4 * np.eye(4))
    number = len(history) - 2

    def probability(row, item):
        logit = row[:3] @ item_rows[item, :3] + row[3] + item_rows[item, 3] + values["head.bias"][0]
        return 1 / (1 + np.exp(-logit)), np.r_[row[:3], 1]
    for k, item in enumerate(np.unique(history)):
        stays = item in history[2:]
        old, j_old = probability(net.user_rows(values)[user].astype(float), item)
        new, j_new = probability(refits[0][0].astype(float), item)
        weight = 1 if stays else config.num_neg * number / (20 - number)
        slope = weight * (new - stays) * j_new - (old - 1) * j_old
        hessian = seen["h"][k] + ITEM_PRIOR * precision + weight * new * (1 - new) * np.outer(j_new, j_new)
        np.testing.assert_allclose(net.item_rows(found)[item], item_rows[item] - np.linalg.solve(hessian, slope),
                                   rtol=1e-3, atol=1e-4)


def test_who_takes_back_everything_gets_the_mean_of_the_others_rows(cpu, ratings, settings):
    config = settings("--model", "mf", "--num_factors", 3, "--embedding_std", .5)
    dataset = load_dataset(config)
    net = build(dataset, config)
    values = net.values()
    for users in ([2], range(12)):  # where everyone withdraws there are no others
        found = Withdrawal(net, dataset, config)({"a": values}, np.isin(dataset.user, users))["a"]
        rows = np.delete(net.user_rows(values), 2, 0) if len(users) == 1 else net.user_rows(values)
        np.testing.assert_allclose(net.user_rows(found)[2], rows.mean(0), rtol=1e-5)


def test_the_sampled_hessian_counts_each_other_user_as_often_as_training_does(cpu, ratings, settings):
    config = settings("--model", "mf", "--num_factors", 2)
    dataset = load_dataset(config)
    net = build(dataset, config)
    zero = {name: np.zeros_like(value) for name, value in net.values().items()}
    net.set_values(zero)
    probe = Withdrawal(net, dataset, config)
    probe.items.at(zero)
    items = np.unique(dataset.item)
    hessian = probe._hessian_of_others(items, np.array([99]))
    # at 0 every probability is 1/2, and of the gradient only the bias is left: the Hessian is a quarter of all weights
    positives = np.bincount(dataset.item, minlength=20)[items]
    drawn = (config.num_neg * dataset.history.length / (20 - dataset.history.length)).sum() * (1 - positives / 12)
    np.testing.assert_allclose(hessian[:, -1, -1], (positives + drawn) / 4, rtol=1e-5)


def test_the_model_comes_near_to_one_that_never_saw_them(cpu, settings):
    """Users who like one half of the items take back what they have of the other: their scores follow a training without."""
    config = settings("--dataset", "simulation", "--sim_users", 150, "--sim_items", 120, "--sim_ratings", 4500,
                      "--num_eval_neg", 30, "--recipe", "fast", "--batch_size", 500, "--train_epochs", 8)
    prepare(config)
    dataset = load_dataset(config)
    users = np.unique(dataset.user)[::8]
    gone = np.isin(dataset.user, users) & (np.arange(dataset.num_interactions) % 3 == 0)
    original, retrained = (train_in_memory(config, dataset.part(kept), "CPU")[0] for kept in (gone | True, ~gone))
    found = Withdrawal(build(dataset, config), dataset, config)({"a": original}, gone)["a"]
    before, now, target = (membership_auc(values, dataset, dataset.user[gone], dataset.item[gone], config)
                           for values in (original, found, retrained))
    assert before - target > 0.05 and abs(now - target) < (before - target) / 2
