"""The training step of src/training/trainer.py in JAX, for run_benchmark.sh: it answers each line with ms per step.

  python benchmarks/benchmark_jax.py UPDATE NUM_USERS NUM_ITEMS GROUPS NUM_NEG NUM_FACTORS STEPS LAYER LAYER ...

UPDATE is lazy (Adam moves the rows of a batch alone) or dense. All steps are one compiled scan.
"""
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

RATE, BETA1, BETA2, EPSILON = 0.001, 0.9, 0.999, 1e-8


def start_values(num_users, num_items, num_factors, layers):
    """Both embeddings of a user, or of an item, lie in one table; then the weights behind the tables."""
    rng, width = np.random.default_rng(0), num_factors + layers[0] // 2
    tables = [rng.normal(0, 0.01, (rows, width)) for rows in (num_users, num_items)]
    weights = [(rng.normal(0, a ** -0.5, (a, b)), np.zeros(b)) for a, b in zip(layers, layers[1:])]
    last = num_factors + layers[-1]
    parameters = tables, [*weights, (rng.normal(0, last ** -0.5, last), np.zeros(()))]
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), parameters)


def loss_of(rows, weights, num_factors):
    """Mean cross-entropy of g users' rows (g, w) with their items' rows (g * n, w), of which each first is the positive."""
    user, item, f = rows[0], rows[1].reshape(len(rows[0]), -1, rows[1].shape[1]), num_factors
    (first, bias), *others, (out, out_bias) = weights
    half = user.shape[1] - f
    hidden = (user[:, f:] @ first[:half] + bias)[:, None] + item[:, :, f:] @ first[half:]
    for weight, bias in others:
        hidden = jax.nn.relu(hidden) @ weight + bias
    logit = (user[:, None, :f] * item[:, :, :f]) @ out[:f] + jax.nn.relu(hidden) @ out[f:] + out_bias
    return jnp.mean(jax.nn.softplus(logit)) - jnp.sum(logit[:, 0]) / logit.size


def moved(parameter, m, v, gradient):
    """Adam without the correction of the bias, which costs nothing: (parameter, m, v)."""
    m, v = BETA1 * m + (1 - BETA1) * gradient, BETA2 * v + (1 - BETA2) * gradient ** 2
    return parameter - RATE * m / (jnp.sqrt(v) + EPSILON), m, v


def moved_table(table, m, v, gradient, index, lazy):
    """The same of a table, from the gradients of its rows `index`, among which one may occur several times."""
    dense = jnp.zeros_like(table).at[index].add(gradient)
    if not lazy:
        return moved(table, m, v, dense)
    rows = moved(table[index], m[index], v[index], dense[index])  # equal rows are written several times, with equal values
    return tuple(whole.at[index].set(part) for whole, part in zip((table, m, v), rows))


def main():
    lazy = sys.argv[1] == "lazy"
    num_users, num_items, groups, num_neg, num_factors, steps, *layers = map(int, sys.argv[2:])
    values = start_values(num_users, num_items, num_factors, layers)
    rng = np.random.default_rng(1)
    batches = (jnp.asarray(rng.integers(num_users, size=(steps, groups)), jnp.int32),
               jnp.asarray(rng.integers(num_items, size=(steps, groups * (1 + num_neg))), jnp.int32))

    def step(state, batch):
        (tables, weights), m, v = state
        rows = [table[index] for table, index in zip(tables, batch)]
        loss, (row_gradients, gradients) = jax.value_and_grad(loss_of, (0, 1))(rows, weights, num_factors)
        after = [moved_table(*one, lazy) for one in zip(tables, m[0], v[0], row_gradients, batch)]
        weights, structure = jax.tree.flatten(weights)
        new = [moved(*one) for one in zip(weights, *map(jax.tree.leaves, (m[1], v[1], gradients)))]
        return [(tables, jax.tree.unflatten(structure, part)) for tables, part in
                zip(map(list, zip(*after)), zip(*new))], loss

    run = jax.jit(lambda state, batches: jax.lax.scan(step, state, batches), donate_argnums=0)
    state = [values, *(jax.tree.map(jnp.zeros_like, values) for _ in range(2))]

    def timed(state):
        start = time.perf_counter()
        state, losses = run(state, batches)
        losses.block_until_ready()
        return state, 1e3 * (time.perf_counter() - start) / steps

    state, _ = timed(state)  # compiles
    print(jax.__version__, flush=True)
    for _ in sys.stdin:
        state, ms = timed(state)
        print(ms, flush=True)


if __name__ == "__main__":
    main()
