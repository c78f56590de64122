"""Environments that turn plans into outcomes, and shapings that turn outcomes into rewards."""
