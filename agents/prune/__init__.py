"""The main job: a model and a budget in, a smaller model with its evidence out."""
