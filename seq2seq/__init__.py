"""LSTM translation models: prepare, train, evaluate, translate."""

__version__ = "0.1.0"
