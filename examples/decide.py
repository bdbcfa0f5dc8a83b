"""A decision about simulated data, in memory: some ten seconds on 2 cores.

Runs with .venv/bin/python, which `bash scripts/setup_env.sh` makes, or wherever the project was installed.
"""
import ifrqe
from ifrqe.sources.simulation import simulate

# 1. a data frame: who had what, when, and how little they want that used, from 0 to 1
ratings, movies, minded = simulate(num_users=300, num_items=300, num_ratings=12_000, seed=1)
interactions = ratings.merge(minded)

# 2. the decision: at most 60% of the unwillingness is violated, and 1 means never
answer = ifrqe.decide(interactions, budget=0.6, veto=True, recipe="fast")
masked = answer.frame[answer.frame.disclosed]  # what may train any recommender
print(f"disclosed: {len(masked):,} of {len(interactions):,} interactions, worth {masked.rating.mean():.2f} stars on average "
      f"(withheld: {answer.frame[~answer.frame.disclosed].rating.mean():.2f})")
print(f"unwillingness: {answer.record['wv']:.2f} a user of {answer.record['total_wv']:.2f}; trained on to find that out: "
      f"{answer.record['spent_wv']:.2f}")

# 3. what a model of that recommends
print(answer.recommend([1, 2], k=3).merge(movies).to_string(index=False))
