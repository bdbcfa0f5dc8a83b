"""The method in memory, step by step and without files: about two minutes on 2 cores.

Runs with .venv/bin/python, which `bash scripts/setup_env.sh` makes, or wherever the project was installed.
"""
import sys

try:
    import numpy as np
    from ifrqe.candidates import evaluation_candidates
    from ifrqe.common.errors import InputError
    from ifrqe.config import load_config
    from ifrqe.consent.allowed import VETO
    from ifrqe.dataset import split_allowed
    from ifrqe.device_adapter import set_device
    from ifrqe.game.mirror_descent import Game
    from ifrqe.influence_function import expected_at
    from ifrqe.metrics import all_metrics, willingness_violation
    from ifrqe.network import build, score
    from ifrqe.options import options_of
    from ifrqe.sources.interactions import Ids, ordered
    from ifrqe.sources.simulation import simulate
    from ifrqe.training.train import Validation
    from ifrqe.training.trainer import Trainer, train_on
except ModuleNotFoundError as e:
    print(f"error: {sys.executable}: No module named {e.name}; run bash scripts/setup_env.sh, then use .venv/bin/python",
          file=sys.stderr)
    sys.exit(2)

READ = {*options_of("simulation", "model", "training", "negatives", "candidates", "randomness", "influence", "chunks"),
        "wv_budget", "recipe", "eval_batch_size", "device_target", "device_id"} - {"patience"}


def trained(dataset, config, device):
    """Trains NCF; returns the parameters that recommend, and those that influences come from, up to the anchor epoch."""
    epochs = [epoch.values for epoch in train_on(Trainer(build(dataset, config), dataset, config, device))]
    found = list(map(Validation(dataset, config), epochs))
    best, anchor = (int(np.argmax([sign * one[key] for one in found]))
                    for sign, key in ((1, f"ndcg@{config.top_k}"), (-1, "pos_loss")))
    return epochs[best], epochs[:anchor + 1][-config.anchor_epochs:]


def recommender(dataset, values, config):
    """HR@k, NDCG@k, AUC and losses of a model on the test items."""
    net = build(dataset, config)
    net.set_values(values)
    return all_metrics(score(net, evaluation_candidates(dataset, "test", config), config.eval_batch_size), config.top_k)


def main(arguments=()):
    config = load_config(arguments, __doc__)
    if others := sorted(config.given - READ):
        raise InputError(f"--{others[0]}: is not read here; leave it out")
    device = set_device(config)

    # 1. data: what is forbidden, by unwillingness 1, is left out; then each user's last item is the test item, the one
    #    before the validation item, the rest their history
    ratings, _, minded = simulate(config.sim_users, config.sim_items, config.sim_ratings, config.seed)
    user, item = ratings["user_id"].to_numpy() - 1, ratings["item_id"].to_numpy() - 1
    ids = Ids(np.arange(1, 1 + config.sim_users), np.arange(1, 1 + config.sim_items))
    whole, b = ordered("simulation", ids, (user, item, ratings["timestamp"].to_numpy())), minded["unwillingness"].to_numpy()
    dataset = split_allowed(whole, 2, np.where(b[whole.rows] == 1, VETO, 0))
    unwillingness = b[dataset.rows]  # (n,) in [0, 1], 1 = most unwilling

    # 2. the plain model, trained on everything; influences are taken where it is not yet over-confident
    plain, anchor = trained(dataset, config, device)

    # 3. (n,) influence on the validation item, and what is expected of the next item, in nats: positive = disclosing helps
    influence, expected, _ = expected_at(anchor, dataset, config)

    # 4. the game: what is worth its price is disclosed, at the price that keeps within the budget
    disclosed, price = Game(expected, unwillingness, config).within(config.wv_budget * unwillingness.sum())
    print(f"disclosed: {disclosed.mean():.1%} of the interactions at the price {price:.4g}; helpful to the validation item: "
          f"{(influence > 0).mean():.1%}")

    # 5. the masked model, trained on what is disclosed, against the plain one
    masked, _ = trained(dataset.part(disclosed), config, device)
    results = {"everything": recommender(dataset, plain, config), "masked": recommender(dataset, masked, config)}
    for (name, metrics), kept in zip(results.items(), (np.ones(len(disclosed)), disclosed)):
        wv = willingness_violation(kept, unwillingness, dataset.num_users)
        print(f"{name:<12}", "  ".join(f"{key} {value:.4f}" for key, value in metrics.items()), f" wv {wv:.2f}")
    return disclosed, results


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(2)
