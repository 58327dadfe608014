"""Gradient descent on feedback: settings, engine, the one loop, losses, recipes."""
