"""Statistics per unit: of weights, of activations, of gate gradients; and what they predict."""
