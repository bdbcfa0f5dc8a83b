"""Several processes under MindSpore's launcher, each with its own users: starting them, and what they tell each other."""
