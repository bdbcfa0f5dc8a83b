"""Running on this machine: data, checkpoints and results already are where the options say."""
import contextlib

session = contextlib.nullcontext  # of the settings: there is nothing to fetch before a stage, and nothing to send after it
